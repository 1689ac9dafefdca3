// Package sandbox runs a build in namespaces of its own, as root of them, and
// leaves nothing behind when it ends, however it ends.
//
// Three processes, all of the same binary, take part (docs/architecture.md):
// the supervisor (Run), init (PID 1, which composes the file system, reaps and
// answers intercepted system calls) and the engine (EngineContext), which does
// the work. The two inner ones are stages entered through MaybeStage.
package sandbox

import (
	"fmt"
	"os"
	"time"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/sandbox/account"
)

// DefaultGrace is how long a cancelled engine may take to end by itself.
const DefaultGrace = 10 * time.Second

// Config describes one run of the engine.
type Config struct {
	// Engine is the argument vector of the engine after the binary's name, for
	// instance {"sandbox-engine"}.
	Engine []string
	// Input is handed to the engine, see Engine.Input.
	Input []byte
	// Sink receives the engine's events, and warnings of the sandbox itself.
	// nil drops them.
	Sink event.Sink

	// TmpParent is the directory on the host for work directories; stale ones in
	// it are swept. Empty means os.TempDir().
	TmpParent string
	// UseTmpfs keeps /.dib in memory instead of in a work directory.
	UseTmpfs bool
	// TmpfsSize bounds that memory in bytes; 0 leaves the kernel's default, half of RAM.
	TmpfsSize int64

	// Stdin, Stdout and Stderr of the engine; nil means those of this process.
	Stdin, Stdout, Stderr *os.File
	// Env is the whole environment of the engine; nil means that of this process.
	Env []string
	// Grace is how long the engine may take to end after ctx is done; 0 means DefaultGrace.
	Grace time.Duration
}

// Facts are what the engine should know of its surroundings.
type Facts struct {
	// Rootless says that uid 0 is not root of the machine: device nodes, flags
	// and labels are found in the side table.
	Rootless bool `json:"rootless"`
	// Intercepted says that refused system calls are answered by the sandbox. It
	// is false as root, and where the kernel cannot do it.
	Intercepted bool `json:"intercepted"`
	// SideTable is the path of the side table, see package sidetable.
	SideTable string `json:"side_table"`
	// HostEnv is added to the environment of host-side hooks, as NAME=value.
	HostEnv []string `json:"host_env,omitempty"`
	// Caller is the user who started the build, with his ids on the host.
	Caller account.User `json:"caller"`
	// Umask is the caller's; that of the sandbox is 022.
	Umask int `json:"umask"`
}

// SetupError says that the machine does not allow the sandbox, and what to do.
type SetupError struct {
	What string // what cannot be done and why
	Cure string // exact commands or steps
	Err  error  // what the system said; may be nil
}

func (e *SetupError) Error() string {
	s := e.What
	if e.Err != nil {
		s = fmt.Sprintf("%s: %v", s, e.Err)
	}
	if e.Cure != "" {
		s += "; " + e.Cure
	}
	return s
}

func (e *SetupError) Unwrap() error { return e.Err }

// Names of the stages, which are first arguments of the binary.
const (
	stageBoot   = "sandbox-boot"
	stageInit   = "sandbox-init"
	stageExec   = "sandbox-exec"
	stageRemove = "sandbox-remove"
)

// Descriptors that boot, init and remove are started with.
const (
	fdControl = 3 // one byte per request (below); its end means that the supervisor is gone
	fdStatus  = 4 // status as JSON
	fdEvents  = 5 // events as JSON lines, for the engine alone to write; init only
	fdConfig  = 6 // initConfig, by encode; init only
	fdLock    = 7 // lock of the work directory, if there is one; init only
)

// Requests of the supervisor.
const (
	requestGo        = 'g' // ids are mapped
	requestTerminate = 't' // end the engine
)

// Descriptors that exec and the engine are started with.
const (
	fdEngineEvents = 3
	fdEngineData   = 4
	fdListener     = 5 // socket for the notification descriptor; exec only
)

// exitSetup is the status of init when the engine could not be started.
const exitSetup = 125

// initConfig is what the supervisor tells init.
type initConfig struct {
	Engine    []string
	Input     []byte
	UserNS    bool   // the caller is 0 inside and somebody else outside
	Rootless  bool   // not root of the machine
	WorkRoot  string // directory that becomes /.dib; empty for a tmpfs
	TmpfsSize int64
	Cwd       string
	Caller    account.User
}

// engineData is what init tells the engine.
type engineData struct {
	Facts Facts
	Input []byte
}

// status is what a stage tells the supervisor.
type status struct {
	Started bool   `json:",omitempty"` // the engine runs
	Warning string `json:",omitempty"` // something the user should know
	Failed  string `json:",omitempty"` // why it does not
	Errno   int    `json:",omitempty"` // the number behind Failed
}
