package disk

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/disk/ext"
)

// ownExt says whether our own writer makes a filesystem: one with options that
// it knows. mke2fs makes the others.
func ownExt(fs blockdev.Filesystem) bool { return ext.Check(extOptions(fs, 0)) == nil }

func extOptions(fs blockdev.Filesystem, epoch int64) ext.Options {
	return ext.Options{
		Type: fs.Type, Length: fs.Length, Label: fs.Label, UUID: fs.UUID, HashSeed: fs.HashSeed, MkfsOpts: fs.Opts, Epoch: epoch,
	}
}

// writeExt makes an ext filesystem with the directory dir and what the side
// table knows of it; an empty dir leaves it empty.
func (w *writer) writeExt(ctx context.Context, f io.WriterAt, plan editPlan, dir string, attrs rootAttrs) error {
	src := ext.Source{Dir: dir, Mkdirs: plan.mkdirs, Facts: map[string]ext.Fact{}}
	src.Root = ext.Attributes{Mode: attrs.mode, UID: attrs.uid, GID: attrs.gid, Mtime: unix.Timespec{Sec: attrs.mtime}}
	for _, e := range plan.entries {
		name := e.inside(plan.point)
		fact := src.Facts[name]
		if e.Node != nil {
			node := ext.Node(*e.Node)
			fact.Node = &node
		}
		if e.Flags != nil {
			fact.Flags |= *e.Flags
		}
		for key, value := range e.Xattrs {
			if fact.Xattrs == nil {
				fact.Xattrs = map[string][]byte{}
			}
			fact.Xattrs[key] = value
		}
		src.Facts[name] = fact
	}
	if err := ext.Write(ctx, f, plan.fs.Offset, src, extOptions(plan.fs, w.epoch)); err != nil {
		return fmt.Errorf("cannot make filesystem %s (%s, %d MiB): %w", plan.fs.Node, plan.fs.Type, plan.fs.Length>>20, err)
	}
	return nil
}
