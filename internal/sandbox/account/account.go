// Package account edits passwd(5) and group(5) for the sandbox, where the caller
// is id 0: his name must lead to 0, and 0 to his name.
package account

import (
	"bytes"
	"strconv"
	"strings"
)

// User is the caller as the host knows him.
type User struct {
	Name  string
	UID   int
	Group string // name of his primary group
	GID   int
	Home  string
	Shell string
}

// Lookup finds a user in a passwd file by name or by decimal id ("#1000" or
// "1000"); a name counts first. Group is left empty.
func Lookup(passwd []byte, who string) (User, bool) {
	byID := strings.TrimPrefix(who, "#")
	var found *User
	for l := range bytes.Lines(passwd) {
		u, ok := parseUser(string(bytes.TrimRight(l, "\n")))
		switch {
		case !ok:
		case u.Name == who:
			return u, true
		case found == nil && strconv.Itoa(u.UID) == byID:
			found = &u
		}
	}
	if found != nil {
		return *found, true
	}
	return User{}, false
}

func parseUser(line string) (User, bool) {
	f := strings.Split(line, ":")
	if len(f) != 7 || f[0] == "" {
		return User{}, false
	}
	uid, err1 := strconv.Atoi(f[2])
	gid, err2 := strconv.Atoi(f[3])
	if err1 != nil || err2 != nil {
		return User{}, false
	}
	return User{Name: f[0], UID: uid, GID: gid, Home: f[5], Shell: f[6]}, true
}

// Group is a line of group(5).
type Group struct {
	Name    string
	GID     int
	Members []string
}

// Groups reads a group file; malformed lines are skipped.
func Groups(group []byte) []Group {
	var out []Group
	for l := range bytes.Lines(group) {
		f := strings.Split(string(bytes.TrimRight(l, "\n")), ":")
		if len(f) != 4 || f[0] == "" {
			continue
		}
		gid, err := strconv.Atoi(f[2])
		if err != nil {
			continue
		}
		g := Group{Name: f[0], GID: gid}
		if f[3] != "" {
			g.Members = strings.Split(f[3], ",")
		}
		out = append(out, g)
	}
	return out
}

// Passwd puts the caller, as 0:0, before every other line; root stays, behind
// him. Lines of names other than the caller's that have his id go: inside, that
// id is somebody else's.
func Passwd(passwd []byte, u User) []byte {
	shell := u.Shell
	if shell == "" {
		shell = "/bin/sh"
	}
	out := []byte(u.Name + ":x:0:0:" + u.Name + ":" + u.Home + ":" + shell + "\n")
	for l := range bytes.Lines(passwd) {
		line := strings.TrimRight(string(l), "\n")
		if other, ok := parseUser(line); ok && (other.Name == u.Name || other.UID == u.UID && u.UID != 0) {
			continue
		}
		out = append(append(out, line...), '\n')
	}
	return out
}

// Groupfile does for group(5) what Passwd does for passwd(5).
func Groupfile(group []byte, u User) []byte {
	name := u.Group
	if name == "" {
		name = u.Name
	}
	out := []byte(name + ":x:0:\n")
	for l := range bytes.Lines(group) {
		line := strings.TrimRight(string(l), "\n")
		f := strings.Split(line, ":")
		if len(f) == 4 && (f[0] == name || f[2] == strconv.Itoa(u.GID) && u.GID != 0) {
			continue
		}
		out = append(append(out, line...), '\n')
	}
	return out
}
