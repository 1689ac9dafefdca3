// Package elements embeds the element library: every directory beside this
// file is one element.
package elements

import (
	"bytes"
	"embed"
	"io/fs"
)

// The pattern takes hidden files too; symbolic links cannot be embedded, so no
// element may contain one.
//
//go:embed all:*
var tree embed.FS

// FS returns the library. Its top-level directories are the elements, named as
// they are called; plain files beside them are no part of it. Embedding keeps
// no permissions: Mode tells what a file has to get.
func FS() fs.FS { return tree }

// Mode returns the permissions of a file of the library: what starts as a
// script is executable, all else is data.
func Mode(content []byte) fs.FileMode {
	if bytes.HasPrefix(content, []byte("#!")) {
		return 0o755
	}
	return 0o644
}
