// Package report says what an image file is and what is in it.
package report

import (
	"bytes"
	"context"
	_ "embed" // for Schema
	"encoding/json"
	"errors"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image/formats"
	"github.com/dib-builder/dib/internal/inspect"
	"github.com/dib-builder/dib/internal/inspect/extfs"
	"github.com/dib-builder/dib/internal/inspect/fatfs"
	"github.com/dib-builder/dib/internal/inspect/partition"
	"github.com/dib-builder/dib/internal/inspect/signature"
	"github.com/dib-builder/dib/internal/inspect/system"
)

// Schema is the JSON Schema (draft 2020-12) of Report.
//
//go:embed inspect.schema.json
var Schema string

// Report is what there is to say about an image file. Sizes are in bytes.
type Report struct {
	File           string            `json:"file"`
	Format         string            `json:"format"`
	Details        map[string]string `json:"details"`
	VirtualSize    int64             `json:"virtual_size"` // of the disk
	FileSize       int64             `json:"file_size"`
	RealSize       int64             `json:"real_size"` // what the file takes on its filesystem
	BackingFile    string            `json:"backing_file,omitempty"`
	Snapshots      int               `json:"snapshots"`
	PartitionTable string            `json:"partition_table"` // gpt, mbr or none
	Partitions     []Partition       `json:"partitions"`      // of a disk without a table one, with the number 0
	System         *System           `json:"operating_system,omitempty"`
	Kernels        []string          `json:"kernels"`
	Packages       []Packages        `json:"packages"`
	Boot           Boot              `json:"boot"`
	Problems       []string          `json:"problems"` // why something may be missing here
}

// Partition is one of the disk.
type Partition struct {
	Number     int         `json:"number"`
	Offset     int64       `json:"offset"`
	Size       int64       `json:"size"`
	Type       string      `json:"type,omitempty"`
	Name       string      `json:"name,omitempty"`
	Filesystem *Filesystem `json:"filesystem,omitempty"`
}

// Filesystem is what a partition holds; not all of it is a filesystem proper.
type Filesystem struct {
	Type  string `json:"type"`
	Label string `json:"label,omitempty"`
	UUID  string `json:"uuid,omitempty"`
	Size  *int64 `json:"size,omitempty"`
	Used  *int64 `json:"used,omitempty"`
}

// System is an operating system.
type System struct {
	ID        string `json:"id,omitempty"`
	Version   string `json:"version_id,omitempty"`
	Name      string `json:"pretty_name,omitempty"`
	Partition int    `json:"partition"`
}

// Packages is what a package manager has installed.
type Packages struct {
	Manager string `json:"manager"`
	Count   *int   `json:"count,omitempty"`
}

// Boot is what firmware can start.
type Boot struct {
	BIOS string   `json:"bios,omitempty"` // grub or lilo, in the first sector
	EFI  []string `json:"efi"`
}

// Inspect looks at an open image.
func Inspect(ctx context.Context, name string, f *formats.File) (Report, error) {
	r := Report{
		File: name, Format: f.Format, Details: f.Details, VirtualSize: f.Size(), BackingFile: f.Backing, Snapshots: f.Snapshots,
		Partitions: []Partition{}, Kernels: []string{}, Packages: []Packages{}, Boot: Boot{EFI: []string{}}, Problems: []string{},
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Files()[0].Fd()), &st); err != nil {
		return r, err
	}
	r.FileSize, r.RealSize = st.Size, st.Blocks*512
	if err := r.table(f); err != nil {
		return r, err
	}
	modules := []string{}
	for i := range r.Partitions {
		if err := r.look(ctx, f, &r.Partitions[i], &modules); err != nil {
			return r, err
		}
	}
	// Modules without a kernel in /boot tell at least for which one they are.
	if len(r.Kernels) == 0 {
		r.Kernels = modules
	}
	slices.Sort(r.Kernels)
	r.Kernels = slices.Compact(r.Kernels)
	return r, ctx.Err()
}

// table reads the first sector and the partitions.
func (r *Report) table(f *formats.File) error {
	first := make([]byte, 512)
	if n, err := f.ReadAt(first, 0); n < len(first) {
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		r.PartitionTable = "none"
		return nil
	}
	r.Boot.BIOS = bootCode(first)
	parts, err := partition.Read(f, f.Size())
	r.PartitionTable = "mbr"
	for i := range 4 {
		if first[446+16*i+4] == 0xee {
			r.PartitionTable = "gpt"
		}
	}
	if errors.Is(err, partition.ErrNoTable) {
		r.PartitionTable = "none"
		r.Partitions = []Partition{{Size: f.Size()}}
		return nil
	}
	if err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
	for _, p := range parts {
		r.Partitions = append(r.Partitions, Partition{Number: p.Number, Offset: p.Offset, Size: p.Size, Type: p.Type, Name: p.Name})
	}
	return nil
}

// bootCode names the program in a boot sector by the messages that are in it.
func bootCode(sector []byte) string {
	for _, c := range []struct{ name, text string }{{"grub", "GRUB \x00"}, {"lilo", "LILO"}} {
		if bytes.Contains(sector[:440], []byte(c.text)) {
			return c.name
		}
	}
	return ""
}

// look looks into a partition. Only what ends the inspection is an error.
func (r *Report) look(ctx context.Context, disk io.ReaderAt, p *Partition, modules *[]string) error {
	part := io.NewSectionReader(disk, p.Offset, p.Size)
	c, ok := signature.Identify(part)
	if !ok {
		return nil
	}
	p.Filesystem = &Filesystem{Type: c.Type, Label: c.Label, UUID: c.UUID, Size: known(c.Size), Used: known(c.Used)}
	fs, err := open(c.Type, part)
	if fs == nil || err != nil {
		r.problem(p, err)
		return nil
	}
	s, err := system.Read(ctx, fs)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.problem(p, err)
	if s.Release != nil && r.System == nil {
		r.System = &System{ID: s.Release["ID"], Version: s.Release["VERSION_ID"], Name: s.Release["PRETTY_NAME"], Partition: p.Number}
	}
	r.Kernels = append(r.Kernels, s.Kernels...)
	*modules = append(*modules, s.Modules...)
	r.Boot.EFI = append(r.Boot.EFI, s.EFI...)
	for _, found := range s.Packages {
		db := Packages{Manager: found.Manager}
		if found.Count >= 0 {
			db.Count = &found.Count
		}
		r.Packages = append(r.Packages, db)
	}
	return nil
}

func (r *Report) problem(p *Partition, err error) {
	if err != nil {
		r.Problems = append(r.Problems, label(*p)+": "+err.Error())
	}
}

// open opens a filesystem whose files can be read here; others are nil.
func open(kind string, r io.ReaderAt) (inspect.Walker, error) {
	switch kind {
	case "ext2", "ext3", "ext4":
		fs, err := extfs.Open(r)
		if err != nil {
			return nil, err
		}
		return fs, nil
	case "vfat":
		fs, err := fatfs.Open(r)
		if err != nil {
			return nil, err
		}
		return fs, nil
	}
	return nil, nil
}

func known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// WriteJSON prints the report as Schema describes it.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
