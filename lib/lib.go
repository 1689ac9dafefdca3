// Package lib embeds the shell library that hooks find as $_LIB: bash files to
// be sourced by elements, and dib-run-parts. Their names and the functions in
// them are a contract with elements.
package lib

import (
	"embed"
	"io/fs"
)

//go:embed die common-defaults common-functions img-defaults img-functions
//go:embed ramdisk-defaults ramdisk-functions dib-run-parts dib-block-device.py element-info.py
var tree embed.FS

// FS returns the library. What begins with #! has to be made executable, all
// else is sourced; see elements.Mode.
func FS() fs.FS { return tree }
