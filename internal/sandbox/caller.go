package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/run"
	"github.com/dib-builder/dib/internal/sandbox/account"
	"github.com/dib-builder/dib/internal/sandbox/idmap"
)

// caller is who starts the build and by which means he becomes root of it.
type caller struct {
	user     account.User
	userNS   bool // needs a user namespace
	rootless bool // is not root of the machine
	direct   bool // root of a container: may map its ids himself, each to itself
	uids     []idmap.Extent
	gids     []idmap.Extent
}

// identify finds out what the caller may do. Every missing condition is a
// *SetupError.
func identify(ctx context.Context) (caller, error) {
	uid := unix.Geteuid()
	c := caller{user: lookupUser(ctx, unix.Getuid(), unix.Getgid())}
	initial := inInitialUserNS()
	switch {
	case uid == 0 && isFullRoot(hasCapability):
		c.rootless = !initial
		return c, enoughIDs()
	case uid == 0:
		c.userNS, c.rootless, c.direct = true, true, true
		return c, c.planOwnMaps()
	}
	c.userNS, c.rootless = true, true
	return c, c.planMaps(ctx)
}

// renamed tells whether the caller is another user inside than outside.
func (c caller) renamed() bool { return c.userNS && !c.direct }

// planOwnMaps is for the root that a container has by default, with some of the
// capabilities: he becomes root, with all of them, of a user namespace that has
// the ids of the container.
func (c *caller) planOwnMaps() error {
	var missing []string
	for _, m := range mappingCapabilities {
		if !hasCapability(m.number) {
			missing = append(missing, m.name)
		}
	}
	if missing != nil {
		return errWeakRoot(missing, readConfinement())
	}
	var err error
	if c.uids, err = sameIDs("uid_map"); err != nil {
		return err
	}
	c.gids, err = sameIDs("gid_map")
	return err
}

// enoughIDs refuses to start what would fail at the first chown(2).
func enoughIDs() error {
	for _, file := range []string{"uid_map", "gid_map"} {
		if _, err := sameIDs(file); err != nil {
			return err
		}
	}
	return nil
}

// existHere tells whether this user namespace has an id, as user and as group.
func existHere(id uint32) bool {
	for _, file := range []string{"uid_map", "gid_map"} {
		text, err := os.ReadFile("/proc/self/" + file)
		if err != nil {
			continue
		}
		if _, _, missing := idmap.Missing([]idmap.Extent{{Outside: id, Count: 1}}, idmap.ParseMap(string(text))); missing {
			return false
		}
	}
	return true
}

func sameIDs(file string) ([]idmap.Extent, error) {
	text, err := os.ReadFile("/proc/self/" + file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the ids of this user namespace: %w", err)
	}
	here := idmap.ParseMap(string(text))
	same, err := idmap.Same(here)
	if err != nil {
		return nil, errFewIDs(idmap.Reach(here))
	}
	return same, nil
}

// inInitialUserNS tells whether root is root of the machine: only the initial
// user namespace maps all ids to themselves.
func inInitialUserNS() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(text)), " ") == "0 0 4294967295"
}

func hasCapability(n int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[n/32].Effective>>(n%32)&1 == 1
}

// lookupUser finds the caller's account: in the files, else in the name services
// that getent asks, else in the environment.
func lookupUser(ctx context.Context, uid, gid int) account.User {
	id := strconv.Itoa(uid)
	passwd, _ := os.ReadFile("/etc/passwd")
	u, ok := account.Lookup(passwd, "#"+id)
	if !ok {
		text, _ := run.Cmd{Argv: []string{"getent", "passwd", id}, Env: os.Environ()}.Output(ctx)
		u, ok = account.Lookup(text, "#"+id)
	}
	if !ok {
		u = account.User{Name: os.Getenv("USER"), Home: os.Getenv("HOME")}
		if u.Name == "" || strings.ContainsAny(u.Name, ":\n") {
			u.Name = "user" + id
		}
		if u.Home == "" || strings.ContainsAny(u.Home, ":\n") {
			u.Home = "/"
		}
	}
	u.UID, u.GID = uid, gid
	groups, _ := os.ReadFile("/etc/group")
	for _, g := range account.Groups(groups) {
		if g.GID == gid {
			u.Group = g.Name
			break
		}
	}
	return u
}

// planMaps decides on the ids of the user namespace.
func (c *caller) planMaps(ctx context.Context) error {
	if conf := readConfinement(); conf.noNewPrivs {
		return errNoNewPrivs(conf)
	}
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		if _, err := findTool(tool); err != nil {
			return errNoTool(tool)
		}
	}
	uids, err := readRanges("/etc/subuid")
	if err != nil {
		return err
	}
	gids, err := readRanges("/etc/subgid")
	if err != nil {
		return err
	}
	own := func(ranges []idmap.Range, getsubids ...string) []idmap.Range {
		if r := idmap.Of(ranges, c.user.Name, c.user.UID); len(r) > 0 {
			return r
		}
		// Ranges may come from a name service.
		text, _ := run.Cmd{Argv: append(append([]string{"getsubids"}, getsubids...), c.user.Name), Env: os.Environ()}.Output(ctx)
		return idmap.ParseGetsubids(string(text))
	}
	ownUIDs, ownGIDs := own(uids), own(gids, "-g")
	if c.uids, err = idmap.Map(uint32(c.user.UID), ownUIDs); err == nil {
		c.gids, err = idmap.Map(uint32(c.user.GID), ownGIDs)
	}
	if err != nil {
		return errNoRange(c.user, idmap.Total(ownUIDs), idmap.Total(ownGIDs), idmap.Free(append(uids, gids...)), existHere)
	}
	return c.idsExist()
}

// idsExist refuses subordinate ids that a container does not have: newuidmap
// would be refused them without a reason.
func (c *caller) idsExist() error {
	for _, m := range []struct {
		file, list string
		ids        []idmap.Extent
	}{{"uid_map", "/etc/subuid", c.uids}, {"gid_map", "/etc/subgid", c.gids}} {
		text, err := os.ReadFile("/proc/self/" + m.file)
		if err != nil {
			continue // newuidmap has the last word
		}
		if first, last, missing := idmap.Missing(m.ids, idmap.ParseMap(string(text))); missing {
			return errForeignRange(c.user, m.list, first, last)
		}
	}
	return nil
}

func readRanges(path string) ([]idmap.Range, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the subordinate ids: %w", err)
	}
	ranges, err := idmap.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("cannot read the subordinate ids in %s: %w", path, err)
	}
	return ranges, nil
}

// findTool finds a program of the system, also when the caller's PATH lacks its
// directory.
func findTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"} {
		if path := dir + "/" + name; unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// mapIDs gives the user namespace of a process its ids.
func mapIDs(ctx context.Context, pid int, c caller) error {
	for _, m := range []struct {
		tool, file string
		ids        []idmap.Extent
	}{{"newuidmap", "uid_map", c.uids}, {"newgidmap", "gid_map", c.gids}} {
		if c.direct {
			path := fmt.Sprintf("/proc/%d/%s", pid, m.file)
			if err := os.WriteFile(path, []byte(idmap.Lines(m.ids)), 0); err != nil {
				return errOwnMapping(readConfinement(), err)
			}
			continue
		}
		tool, err := findTool(m.tool)
		if err != nil {
			return errNoTool(m.tool)
		}
		err = run.Cmd{Argv: append([]string{tool}, idmap.Args(pid, m.ids)...), Env: []string{"LC_ALL=C"}}.Run(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return errMapping(m.tool, tool, readConfinement(), err)
		}
	}
	return nil
}
