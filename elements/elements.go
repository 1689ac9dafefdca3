// Package elements embeds the element library and the shell library that
// hooks source as $_LIB.
package elements

import "embed"

//go:embed all:*
var tree embed.FS
