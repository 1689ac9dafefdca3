// Package fat writes FAT12, FAT16 and FAT32 filesystems with long names into a
// part of a file, filled from a directory. Nothing is mounted, and the same
// input gives the same bytes.
//
// The format is that of Microsoft's "FAT32 File System Specification", version
// 1.03, and of the long names described there.
package fat

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Options say what to write.
type Options struct {
	Length     int64    // bytes, a multiple of SectorSize
	SectorSize int      // bytes: 512 or 4096
	Hidden     int64    // sectors of the disk before the filesystem
	Label      string   // at most 11 bytes; empty for none
	VolumeID   string   // as Linux shows it: 1A2B-3C4D
	MkfsOpts   []string // of mkfs.vfat: -F 12|16|32, -s SECTORS-PER-CLUSTER, -i VOLUME-ID
	Epoch      int64    // seconds: no time is later; 0 for no limit
}

// ErrNoSpace is a tree that is larger than the filesystem.
var ErrNoSpace = errors.New("the filesystem is too small for its files")

const (
	fats         = 2
	rootEntries  = 512 // of FAT12 and FAT16
	media        = 0xf8
	entrySize    = 32
	fat32Reserve = 32 // sectors
	// fat32From is the size from which mkfs.vfat takes FAT32 (bytes).
	fat32From = 512 << 20
)

// Highest cluster counts of each kind, exclusive: the kind of a filesystem is
// nothing but the number of its clusters.
const (
	maxClusters12 = 4085
	maxClusters16 = 65525
	maxClusters32 = 0x0ffffff5
)

// geometry is where everything lies. It counts sectors, unless it says bytes.
type geometry struct {
	kind        int // 12, 16 or 32
	sectorSize  int64
	total       int64
	reserved    int64
	fatSectors  int64
	rootSectors int64 // of FAT12 and FAT16
	perCluster  int64
	clusters    int64
}

func (g geometry) clusterBytes() int64 { return g.perCluster * g.sectorSize }
func (g geometry) dataStart() int64    { return g.reserved + fats*g.fatSectors + g.rootSectors }

// cluster gives the offset in bytes of a cluster, of which 2 is the first.
func (g geometry) cluster(n int64) int64 {
	return (g.dataStart() + (n-2)*g.perCluster) * g.sectorSize
}

// opts are the mkfs.vfat options that are known here.
type opts struct {
	kind, perCluster int
	volumeID         string
}

// parseOpts reads options of mkfs.vfat; what is unknown is an error, so that
// nothing asked for is left out in silence.
func parseOpts(words []string) (opts, error) {
	var o opts
	for i := 0; i < len(words); i++ {
		name, value := words[i], ""
		if len(name) > 2 && name[0] == '-' {
			name, value = name[:2], name[2:]
		}
		if !strings.Contains("-F -s -i", name) || len(name) != 2 {
			return o, fmt.Errorf("option %s of mkfs.vfat is not known here: known are -F, -s and -i", words[i])
		}
		if value == "" {
			if i++; i == len(words) {
				return o, fmt.Errorf("option %s of mkfs.vfat wants an argument", name)
			}
			value = words[i]
		}
		if name == "-i" {
			o.volumeID = value
			continue
		}
		n, err := strconv.Atoi(value)
		switch {
		case name == "-F" && (n == 12 || n == 16 || n == 32):
			o.kind = n
		case name == "-s" && n >= 1 && n <= 128 && bits.OnesCount(uint(n)) == 1:
			o.perCluster = n
		case err != nil || name == "-F":
			return o, fmt.Errorf("option %s %s of mkfs.vfat: want 12, 16 or 32 for -F, a number for -s", name, value)
		default:
			return o, fmt.Errorf("option -s %s of mkfs.vfat: want a power of two up to 128", value)
		}
	}
	return o, nil
}

// CheckOptions says which option of mkfs.vfat is not known here.
func CheckOptions(words []string) error {
	_, err := parseOpts(words)
	return err
}

// CheckLabel says what keeps a label from being written.
func CheckLabel(label string) error {
	_, err := encodeLabel(label)
	return err
}

// Check says what keeps a filesystem from being made with these options,
// before there is a tree.
func Check(o Options) error {
	_, _, err := plan(o)
	return err
}

func plan(o Options) (geometry, uint32, error) {
	given, err := parseOpts(o.MkfsOpts)
	if err != nil {
		return geometry{}, 0, err
	}
	id := o.VolumeID
	if given.volumeID != "" {
		id = given.volumeID
	}
	n, err := strconv.ParseUint(strings.Replace(id, "-", "", 1), 16, 32)
	if err != nil {
		return geometry{}, 0, fmt.Errorf("%q is not a volume id: want eight hexadecimal digits, such as 1A2B-3C4D", id)
	}
	if _, err := encodeLabel(o.Label); err != nil {
		return geometry{}, 0, err
	}
	g, err := layOut(o.Length, int64(o.SectorSize), given)
	return g, uint32(n), err
}

// layOut chooses the kind and the cluster size as mkfs.vfat does for a hard
// disk, unless they are given.
func layOut(length, sector int64, given opts) (geometry, error) {
	if sector != 512 && sector != 4096 {
		return geometry{}, fmt.Errorf("sectors of %d bytes are not supported: want 512 or 4096", sector)
	}
	kind := given.kind
	if kind == 0 && length >= fat32From {
		kind = 32
	}
	kinds := []int{kind}
	if kind == 0 {
		kinds = []int{12, 16}
		if length > 16<<20 {
			kinds = []int{16}
		}
	}
	for _, kind := range kinds {
		for per := firstPerCluster(kind, length, sector); per <= 128 && per*sector <= 64<<10; per *= 2 {
			if given.perCluster != 0 {
				per = int64(given.perCluster)
			}
			g := geometry{kind: kind, sectorSize: sector, total: length / sector, perCluster: per}
			if g.fill() {
				return g, nil
			}
			if given.perCluster != 0 {
				break
			}
		}
	}
	return geometry{}, fmt.Errorf("no FAT%s filesystem of %d bytes is possible with sectors of %d bytes: choose another size, or other -F and -s", kindText(given.kind), length, sector)
}

func kindText(kind int) string {
	if kind == 0 {
		return ""
	}
	return strconv.Itoa(kind)
}

func firstPerCluster(kind int, length, sector int64) int64 {
	size := int64(2048)
	if kind == 32 {
		switch mib := length >> 20; {
		case mib <= 260:
			size = 512
		case mib <= 8<<10:
			size = 4 << 10
		case mib <= 16<<10:
			size = 8 << 10
		case mib <= 32<<10:
			size = 16 << 10
		default:
			size = 32 << 10
		}
	}
	return max(size/sector, 1)
}

// fill computes the size of the FAT and with it everything else; it reports
// whether the number of clusters is right for the kind.
func (g *geometry) fill() bool {
	g.reserved = 1
	g.rootSectors = rootEntries * entrySize / g.sectorSize
	if g.kind == 32 {
		g.reserved, g.rootSectors = fat32Reserve, 0
	}
	// The FAT takes room from the clusters it counts: grow it until it is
	// large enough for what is left, which it is after two rounds.
	for g.fatSectors = 1; ; {
		rest := g.total - g.reserved - g.rootSectors - fats*g.fatSectors
		if rest < g.perCluster {
			return false
		}
		g.clusters = rest / g.perCluster
		need := ((g.clusters+2)*int64(g.kind) + 7) / 8
		need = (need + g.sectorSize - 1) / g.sectorSize
		if need <= g.fatSectors {
			break
		}
		g.fatSectors = need
	}
	switch g.kind {
	case 12:
		return g.clusters < maxClusters12
	case 16:
		return g.clusters >= maxClusters12 && g.clusters < maxClusters16
	}
	return g.clusters >= maxClusters16 && g.clusters < maxClusters32
}
