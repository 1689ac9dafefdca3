// Package recipe holds what the user asked for: the value that a command line
// or a YAML file is turned into before anything is looked up or checked
// against the machine.
package recipe

// Recipe is one image to build. Zero values mean "not given" unless a comment
// says otherwise; environment fallbacks have already been applied.
type Recipe struct {
	Ramdisk bool     `json:"ramdisk,omitempty"` // invoked as ramdisk-image-create
	Args    []string `json:"args"`              // the original arguments, for DIB_ARGS

	Elements []string `json:"elements"` // IMAGE_ELEMENT of the environment, then the words of the command line, split on blanks
	SkipBase bool     `json:"skip_base,omitempty"`
	Packages []string `json:"packages,omitempty"` // -p, in order

	Arch      string   `json:"arch"`       // as given or defaulted, not normalised (exported as ARCH)
	ImageName string   `json:"image_name"` // after suffix stripping
	Types     []string `json:"types"`      // output formats, de-duplicated, in order; default qcow2
	Compress  bool     `json:"compress"`   // false after -u
	Trace     int      `json:"trace,omitempty"`
	ClearEnv  bool     `json:"clear_env,omitempty"`
	Offline   bool     `json:"offline,omitempty"`

	LogFile string `json:"log_file,omitempty"`

	Checksum       string `json:"checksum,omitempty"` // raw DIB_CHECKSUM value
	ImageSizeGiB   string `json:"image_size_gib,omitempty"`
	ExtraSizeMiB   string `json:"extra_size_mib,omitempty"`
	JournalSizeMiB string `json:"journal_size_mib,omitempty"`
	MaxOnline      string `json:"max_online_resize,omitempty"`
	MkfsOptions    string `json:"mkfs_options,omitempty"`
	QemuImgOptions string `json:"qemu_img_options,omitempty"`
	RootLabel      string `json:"root_label,omitempty"`
	FSType         string `json:"fs_type"` // default ext4
	RamdiskElement string `json:"ramdisk_element,omitempty"`
	InstallType    string `json:"install_type"` // default source
	DockerTarget   string `json:"docker_target,omitempty"`

	ImageCache string `json:"image_cache"` // absolute; default ~/.cache/image-create
	Lockfiles  string `json:"lockfiles"`   // absolute; default ~/.cache/dib/lockfiles
	NoTmpfs    bool   `json:"no_tmpfs,omitempty"`
	MinTmpfs   int    `json:"min_tmpfs"` // GiB; default 2

	// Secrets are files whose content hooks find below DIB_SECRETS_DIR.
	Secrets []Secret `json:"secrets,omitempty"`

	// Env is the caller's environment with the exports that options cause
	// (spec/01 section 1.2) applied; it is what hooks inherit.
	Env map[string]string `json:"env"`
}

// Secret is a file that hooks find under another name.
type Secret struct {
	Name string `json:"name"`
	File string `json:"file"` // absolute
}
