package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/place"
)

// A view is a sandbox to look at what elements would do: the engine sees the
// file system as in a build, but can write to nothing but /.dib, which is in
// memory, and reaches no network. It needs no subordinate ids and makes nothing
// on the host, not even a work directory.

const stageView = "sandbox-view"

// Descriptors of a view's stage and of its engine. The stage reports on
// fdStatus and reads its configuration from fdConfig.
const (
	fdViewInput  = 3
	fdViewOutput = 5
)

// viewMemory bounds what the engine of a view can write, in bytes.
const viewMemory = 256 << 20

// ViewConfig describes one run of the engine of a view.
type ViewConfig struct {
	Engine []string // argument vector of the engine after the binary's name
	Input  []byte   // see ViewEngine
	Env    []string // the whole environment of the engine
}

// ViewResult is what the engine of a view left.
type ViewResult struct {
	Output []byte // what it wrote to its output, see ViewEngine
	Log    []byte // its standard output and standard error
	Status int    // its exit status, 128+n after signal n
}

// View runs the engine of a view and waits for it. A *SetupError says that the
// machine does not allow it.
func View(ctx context.Context, cfg ViewConfig) (ViewResult, error) {
	who := caller{userNS: !hasCapability(unix.CAP_SYS_ADMIN), rootless: true, user: lookupUser(ctx, unix.Getuid(), unix.Getgid())}
	cwd, err := unix.Getwd()
	if err != nil {
		return ViewResult{}, fmt.Errorf("cannot find the working directory: %w", err)
	}
	text, err := encode(initConfig{
		Engine: cfg.Engine, Cwd: cwd, UserNS: who.renamed(), Rootless: who.rootless, Caller: who.user, TmpfsSize: viewMemory,
	})
	if err != nil {
		return ViewResult{}, fmt.Errorf("cannot start the sandbox: %w", err)
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for _, content := range [][]byte{cfg.Input, nil, nil, text} { // in the order of their descriptors
		f, err := memfile(content)
		if err != nil {
			return ViewResult{}, fmt.Errorf("cannot start the sandbox: %w", err)
		}
		files = append(files, f)
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{"dib", stageView}
	cmd.Env = cfg.Env
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.ExtraFiles = files
	cmd.SysProcAttr = viewProcess(who)
	if err := runLocked(cmd); err != nil && cmd.ProcessState == nil {
		return ViewResult{}, diagnoseStart(err, who)
	}
	if ctx.Err() != nil {
		return ViewResult{}, ctx.Err()
	}
	var st status
	reported, err := content(files[fdStatus-3])
	if err == nil && len(reported) > 0 {
		err = json.Unmarshal(lastLine(reported), &st)
	}
	if err != nil {
		return ViewResult{}, fmt.Errorf("cannot hear from the sandbox: %w", err)
	}
	if st.Failed != "" {
		return ViewResult{}, explain(st, who)
	}
	result := ViewResult{Log: log.Bytes(), Status: cmd.ProcessState.ExitCode()}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		result.Status = 128 + int(ws.Signal())
	}
	result.Output, err = content(files[fdViewOutput-3])
	return result, err
}

// viewProcess are the namespaces of a view. The caller alone is mapped, as id 0.
func viewProcess(who caller) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if who.userNS {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: unix.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: unix.Getegid(), Size: 1}}
	}
	return attr
}

// runLocked runs a command on a thread that lives as long as it: the child is
// killed when the thread that made it ends.
func runLocked(cmd *exec.Cmd) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- cmd.Run()
	}()
	return <-done
}

func content(f *os.File) ([]byte, error) { return io.ReadAll(io.NewSectionReader(f, 0, 1<<62)) }

func lastLine(text []byte) []byte {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return lines[len(lines)-1]
}

// viewMain is PID 1 of a view until it turns into the engine.
func viewMain() {
	dieWithParent()
	var st unix.Stat_t
	if os.Getpid() != 1 || unix.Fstat(fdConfig, &st) != nil {
		misused()
	}
	unix.CloseOnExec(fdStatus)
	unix.CloseOnExec(fdConfig)
	in := &initProcess{}
	if err := in.readConfig(); err != nil {
		fail(err)
	}
	unix.Umask(0o022)
	// What cannot be shown to the engine, it will miss by itself.
	if _, err := compose(in.cfg, func(string) {}); err != nil {
		fail(err)
	}
	if err := makeReadOnly(); err != nil {
		fail(err)
	}
	if err := nameSandbox(); err != nil {
		fail(err)
	}
	if err := dropPrivileges(); err != nil {
		fail(err)
	}
	err := unix.Exec("/proc/self/exe", append([]string{"dib"}, in.cfg.Engine...), os.Environ())
	fail(fmt.Errorf("cannot start the engine: %w", err))
}

// makeReadOnly forbids writing to everything that is of the host.
func makeReadOnly() error {
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	readOnly := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	for _, e := range entries {
		path := "/" + e.Name()
		switch path {
		case "/proc", "/dev", place.Root: // own mounts, which vanish with the sandbox
			continue
		}
		if e.Type()&os.ModeSymlink != 0 {
			continue
		}
		err := unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, readOnly)
		if errors.Is(err, unix.EINVAL) {
			continue // no mount: an empty directory of the sandbox's own root
		}
		if err != nil {
			return fmt.Errorf("cannot make %s read-only: %w", path, err)
		}
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, readOnly); err != nil {
		return fmt.Errorf("cannot make / read-only: %w", err)
	}
	return nil
}

// viewCapabilities are what the engine of a view keeps of root's power: reading
// every file that the caller can, as in a build. Above all it must not be able
// to mount.
var viewCapabilities = []int{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID,
	unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETPCAP,
}

// dropPrivileges takes effect with the next exec.
func dropPrivileges() error {
	for c := 0; c <= 63; c++ {
		if slices.Contains(viewCapabilities, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) { // past the last one
			return fmt.Errorf("cannot drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot refuse new privileges: %w", err)
	}
	return nil
}

// ViewEngine is for the entry point of a view's engine: what ViewConfig.Input
// held, and where its output goes.
func ViewEngine() (input []byte, output *os.File, err error) {
	unix.CloseOnExec(fdViewInput)
	unix.CloseOnExec(fdViewOutput)
	in := os.NewFile(fdViewInput, "input")
	defer in.Close()
	if input, err = content(in); err != nil {
		return nil, nil, fmt.Errorf("cannot read the input of the engine (it is started by dib itself): %w", err)
	}
	return input, os.NewFile(fdViewOutput, "output"), nil
}
