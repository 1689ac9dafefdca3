package extractimage

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Types of partitions with a meaning of their own.
const (
	typeESP    = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	typeESPDOS = "ef"
	typeBoot   = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
)

// mount is a partition and where it belongs.
type mount struct {
	part
	point string // from the root of the system, without a leading slash; empty for the root
}

// choose finds the parts of the operating system among the partitions of its
// disk: the root, and what belongs on /boot and /boot/efi.
func choose(list []part) ([]mount, error) {
	// The order of their names, backwards, is what decides in DIB.
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b part) int { return strings.Compare(strconv.Itoa(b.Number), strconv.Itoa(a.Number)) })
	var root, boot, efi *part
	var others []string
	for i := range list {
		p := &list[i]
		switch p.kind {
		case "ext4", "xfs", "btrfs", "vfat":
		default:
			what := p.kind
			if what == "" {
				what = "nothing known"
			}
			others = append(others, fmt.Sprintf("partition %d: %s", p.Number, what))
			continue
		}
		switch {
		case p.Type == typeESP || p.Type == typeESPDOS:
			if efi == nil {
				efi = p
			}
		case len(list) > 1 && (p.Type == typeBoot || p.label == "boot" || p.Name == "boot"):
			if boot == nil {
				boot = p
			}
		case p.kind == "vfat":
			others = append(others, fmt.Sprintf("partition %d: vfat", p.Number))
		case root == nil:
			root = p
		}
	}
	if root == nil {
		root, boot = boot, nil
	}
	if root == nil {
		slices.Reverse(others)
		if len(others) == 0 {
			return nil, errors.New("it has no partition with a root filesystem")
		}
		return nil, fmt.Errorf("it has no partition with a root filesystem that can be read (ext2, ext3, ext4, xfs or btrfs): %s", strings.Join(others, ", "))
	}
	mounts := []mount{{*root, ""}}
	if boot != nil {
		mounts = append(mounts, mount{*boot, "boot"})
	}
	if efi != nil {
		mounts = append(mounts, mount{*efi, "boot/efi"})
	}
	return mounts, nil
}
