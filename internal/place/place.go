// Package place names the fixed paths inside the sandbox. They are the same in
// every build, so that nothing a hook sees varies from run to run.
package place

const (
	// Root holds everything that dib adds to the file system that host-side
	// hooks see; it exists only inside the sandbox.
	Root = "/.dib"

	BuildDir    = Root + "/build"    // TMP_BUILD_DIR
	ImageDir    = Root + "/image"    // TMP_IMAGE_DIR
	ElementsDir = Root + "/elements" // the embedded element library, one directory an element
	LibDir      = Root + "/lib"      // _LIB
	StandInDir  = Root + "/bin"      // first on the PATH of host-side hooks: sudo and other stand-ins
	EventSocket = Root + "/events"   // unix socket that accepts JSON events, see package event
	SideTable   = Root + "/side-table"
	SecretsDir  = Root + "/secrets" // DIB_SECRETS_DIR of host-side hooks, a tmpfs

	HooksDir = BuildDir + "/hooks" // TMP_HOOKS_PATH
	TreeDir  = BuildDir + "/mnt"   // TMP_MOUNT_PATH, the root filesystem being built
	BuiltDir = BuildDir + "/built" // the same tree between post-root.d and the writing of the disk

	// InTarget is where the chroot sees HooksDir, read-only.
	InTarget = "/tmp/in_target.d"
	// InTargetSecrets is where the chroot sees SecretsDir while target-side hooks run.
	InTargetSecrets = "/tmp/in_target.secrets"
	// Binary is the name of the dib binary inside HooksDir, hence inside InTarget.
	Binary = ".dib"
	// LayoutFile is the name of the layout (package blockdev, JSON) inside HooksDir, present from the finalise phase on.
	LayoutFile = ".layout.json"
)
