package disk

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"syscall"
)

// Usage is what one path and everything below it occupies.
type Usage struct {
	Path  string // "." for the tree itself, else below it
	Bytes int64
}

// UsedKiB is what a tree occupies in KiB, rounded up, as du counts: blocks and
// not lengths, directories included, every inode once, one filesystem only.
func UsedKiB(tree string) (int64, error) {
	all, err := measure(tree)
	if err != nil {
		return 0, err
	}
	return (all[len(all)-1].Bytes + 1023) / 1024, nil
}

// measure lists every path of a tree with its size, the tree itself last.
func measure(tree string) ([]Usage, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	sums := map[string]int64{}
	var order []string
	var rootDev uint64
	err := filepath.WalkDir(tree, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("internal error: no inode of %s", p)
		}
		if p == tree {
			rootDev = st.Dev
		}
		if st.Dev != rootDev {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if id := (inode{st.Dev, st.Ino}); st.Nlink > 1 && !d.IsDir() {
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		order = append(order, p)
		sums[p] += st.Blocks * 512
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot measure %s: %w", tree, err)
	}
	all := make([]Usage, 0, len(order))
	for i := len(order) - 1; i >= 0; i-- { // children come before their parents
		p := order[i]
		rel := "."
		if p != tree {
			sums[filepath.Dir(p)] += sums[p]
			if rel, err = filepath.Rel(tree, p); err != nil {
				return nil, fmt.Errorf("internal error: %w", err)
			}
		}
		all = append(all, Usage{rel, sums[p]})
	}
	return all, nil
}

// reportFloor is the size in bytes below which a short report leaves paths out.
const reportFloor = 10 << 20

// UsageReport lists what occupies the tree, largest first, one line a path;
// full includes what is smaller than 10 MiB. A report is a courtesy: what
// cannot be measured becomes a line of it, never a failure.
func UsageReport(tree string, full bool) []string {
	lines := []string{"===== image size report ====="}
	all, err := measure(tree)
	if err != nil {
		lines = append(lines, err.Error())
	}
	sort.SliceStable(all, func(i, j int) bool {
		if all[i].Bytes != all[j].Bytes {
			return all[i].Bytes > all[j].Bytes
		}
		return all[i].Path < all[j].Path
	})
	for _, u := range all {
		if full || u.Bytes >= reportFloor {
			lines = append(lines, fmt.Sprintf("%8s %s", iec(u.Bytes), u.Path))
		}
	}
	return append(lines, "===== end image size report =====")
}

// iec prints a number of bytes with binary units, rounded up: one digit after
// the point below 10, none above.
func iec(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	scale, unit := int64(1), 0
	for unit < len(units)-1 && n/scale >= 1024 {
		scale *= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%dB", n)
	}
	tenths := n/scale*10 + (n%scale*10+scale-1)/scale
	if tenths < 100 {
		return fmt.Sprintf("%d.%d%s", tenths/10, tenths%10, units[unit])
	}
	return fmt.Sprintf("%d%s", (tenths+9)/10, units[unit])
}
