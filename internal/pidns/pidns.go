// Package pidns finds processes of this PID namespace in a procfs that may be of
// an outer one: where a container hides parts of its /proc, the kernel refuses a
// fresh procfs, and every process has another number there than kill(2) knows.
package pidns

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is a process of this PID namespace.
type Process struct {
	PID int    // as kill(2) takes it
	Dir string // its directory in /proc
}

// Processes lists the processes of this PID namespace and of those below it.
func Processes() ([]Process, error) {
	names, err := numbers("/proc")
	if err != nil {
		return nil, err
	}
	level, err := depth("/proc", os.Getpid())
	if err != nil {
		return nil, err
	}
	var out []Process
	for _, name := range names {
		p := Process{Dir: filepath.Join("/proc", name)}
		if level == 0 {
			p.PID, _ = strconv.Atoi(name)
			out = append(out, p)
			continue
		}
		status, err := os.ReadFile(filepath.Join(p.Dir, "status"))
		if err != nil {
			continue // it has ended
		}
		pids := nsPIDs(status)
		if len(pids) <= level {
			continue // of an outer namespace
		}
		// A neighbour's process has a number at the same place. What that number
		// means here, the kernel says.
		p.PID = pids[level]
		if there, err := nameOf(p.PID, 0); err == nil && there == name {
			out = append(out, p)
		}
	}
	return out, nil
}

// Name is the name of a directory in /proc: that of the process or thread which
// is pid in this PID namespace.
func Name(pid int) (string, error) {
	got, err := nameOf(pid, 0)
	if err == nil || errors.Is(err, unix.ESRCH) {
		return got, err
	}
	if got, err := nameOf(pid, pidfdThread); err == nil {
		return got, nil
	}
	return threadName(pid)
}

// nameOf asks the kernel, which translates the number in a pidfd's information
// for the procfs that it is read in.
func nameOf(pid, flags int) (string, error) {
	fd, err := unix.PidfdOpen(pid, flags)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	got := field(info, "Pid")
	if n, err := strconv.Atoi(got); err != nil || n <= 0 {
		return "", unix.ESRCH
	}
	return got, nil
}

// threadName looks through the threads of every process, for kernels that have
// pidfds of processes only.
func threadName(tid int) (string, error) {
	level, err := depth("/proc", os.Getpid())
	if err != nil {
		return "", err
	}
	processes, err := Processes()
	if err != nil {
		return "", err
	}
	for _, p := range processes {
		threads, err := numbers(filepath.Join(p.Dir, "task"))
		if err != nil {
			continue
		}
		for _, name := range threads {
			status, err := os.ReadFile(filepath.Join(p.Dir, "task", name, "status"))
			if ids := nsPIDs(status); err == nil && level < len(ids) && ids[level] == tid {
				return name, nil
			}
		}
	}
	return "", unix.ESRCH
}

// pidfdThread is PIDFD_THREAD of Linux 6.9.
const pidfdThread = unix.O_EXCL

// depth is how many PID namespaces the one of procfs is above this process's.
func depth(proc string, self int) (int, error) {
	status, err := os.ReadFile(filepath.Join(proc, "self", "status"))
	if err != nil {
		return 0, err
	}
	pids := nsPIDs(status)
	if len(pids) == 0 || pids[len(pids)-1] != self {
		return 0, errors.New("the status of this process does not name it")
	}
	return len(pids) - 1, nil
}

// nsPIDs reads the field NSpid of proc_pid_status(5): the numbers of a process
// from the PID namespace of the procfs down to its own.
func nsPIDs(status []byte) []int {
	var out []int
	for f := range strings.FieldsSeq(field(status, "NSpid")) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil
		}
		out = append(out, n)
	}
	return out
}

// field is the value of a line "KEY:VALUE".
func field(text []byte, key string) string {
	for l := range bytes.Lines(text) {
		if v, ok := bytes.CutPrefix(l, []byte(key+":")); ok {
			return strings.TrimSpace(string(v))
		}
	}
	return ""
}

func numbers(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, e.Name())
		}
	}
	return out, nil
}
