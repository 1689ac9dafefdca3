package bootloader

import (
	"testing"

	"github.com/dib-builder/dib/internal/blockdev"
)

const mbrConfig = `
- local_loop:
    name: image0
    partitioning:
      label: mbr
      partitions:
        - name: root
          flags: [boot, primary]
          size: 100%
          mkfs:
            name: mkfs_root
            mount:
              mount_point: /
              fstab: {options: defaults, fsck-passno: 1}
`

func layout(t testing.TB, text string, sizeMiB int64) *blockdev.Layout {
	t.Helper()
	c, err := blockdev.Check("test.yaml", []byte(text), blockdev.Params{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Layout(blockdev.LayoutInput{SizeKiB: sizeMiB << 10, Seed: []byte("seed")})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
