package blockdev

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/dib-builder/dib/internal/blockdev/size"
)

const (
	// defaultJournalMiB is the size of the ext4 journal when none is given.
	defaultJournalMiB = 64
	// efiPaddingKiB makes room for the EFI system partition in a computed size.
	efiPaddingKiB = 525 * 1024
	// sizeStepKiB is what image sizes are rounded up to.
	sizeStepKiB = 64
)

// SizeInput is what the size of an image depends on. The texts are options as
// given; empty means not given.
type SizeInput struct {
	UsedKiB      int64  // what the tree occupies
	ImageSizeGiB string // --image-size: a decimal number of GiB
	ExtraMiB     string // --image-extra-size: a decimal number of MiB
	JournalMiB   string // --mkfs-journal-size: a whole number of MiB
	RootFSType   string // value root-fstype
	Elements     []string
}

// ImageSize computes the size of an image in KiB, a multiple of 64: the given
// size, or the used space plus the extra, or the used space as 60 % of the
// whole; computed sizes grow by the ext4 journal and by the EFI system
// partition when there is one.
func ImageSize(in SizeInput) (int64, error) {
	size := new(big.Int)
	if in.ImageSizeGiB != "" {
		gib, err := parseAmount("image size", in.ImageSizeGiB, "GiB")
		if err != nil {
			return 0, err
		}
		size.Set(floor(gib.Mul(gib, big.NewRat(1<<20, 1))))
	} else {
		if in.UsedKiB < 0 {
			return 0, fmt.Errorf("internal error: used space is %d KiB", in.UsedKiB)
		}
		if in.ExtraMiB != "" {
			mib, err := parseAmount("extra size", in.ExtraMiB, "MiB")
			if err != nil {
				return 0, err
			}
			size.Add(big.NewInt(in.UsedKiB), floor(mib.Mul(mib, big.NewRat(1024, 1))))
		} else {
			size.Set(floor(new(big.Rat).Mul(big.NewRat(in.UsedKiB, 1), big.NewRat(5, 3))))
		}
		if in.RootFSType == "ext4" {
			journal, err := journalMiB(in.JournalMiB)
			if err != nil {
				return 0, err
			}
			size.Add(size, big.NewInt(journal*1024))
		}
		if hasEFILayout(in.Elements) {
			size.Add(size, big.NewInt(efiPaddingKiB))
		}
	}
	size.Add(size, big.NewInt(sizeStepKiB-1))
	if !size.IsInt64() || size.Int64() > math.MaxInt64/1024 {
		return 0, fmt.Errorf("cannot compute the image size: it exceeds %d KiB", int64(math.MaxInt64/1024))
	}
	kib := size.Int64() / sizeStepKiB * sizeStepKiB
	if kib == 0 {
		return 0, fmt.Errorf("cannot compute the image size: it is 0 (image size %q, extra size %q, used %d KiB)", in.ImageSizeGiB, in.ExtraMiB, in.UsedKiB)
	}
	return kib, nil
}

func hasEFILayout(elements []string) bool {
	for _, e := range elements {
		if strings.Contains(e, "block-device-efi") {
			return true
		}
	}
	return false
}

func floor(r *big.Rat) *big.Int { return new(big.Int).Quo(r.Num(), r.Denom()) }

// parseAmount reads a decimal number that may carry the unit it is counted in,
// long or short; any other unit is an error, because it would not be heeded.
func parseAmount(what, s, unit string) (*big.Rat, error) {
	num := strings.TrimSpace(s)
	for _, u := range []string{unit, unit[:1] + "B", unit[:1]} {
		if n, ok := strings.CutSuffix(num, u); ok {
			num = strings.TrimSpace(n)
			break
		}
	}
	r, err := size.ParseDecimal(num)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s %q: want a number of %s", what, s, unit)
	}
	return r, nil
}

func journalMiB(s string) (int64, error) {
	if s == "" {
		return defaultJournalMiB, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("cannot read journal size %q: want a whole number of MiB", s)
	}
	return n, nil
}

// MkfsInput is what the options of the root filesystem depend on.
type MkfsInput struct {
	RootFSType      string // value root-fstype
	JournalMiB      string // --mkfs-journal-size
	MaxOnlineResize string // --max-online-resize, in blocks as mke2fs takes it
	Release         string // DIB_RELEASE
	Options         string // --mkfs-options
}

// MkfsOptions gives the options of the root filesystem as one line of words.
// What the user gave stands last, so that it wins.
func MkfsOptions(in MkfsInput) (string, error) {
	var opts []string
	ext := in.RootFSType == "ext2" || in.RootFSType == "ext3" || in.RootFSType == "ext4"
	if in.MaxOnlineResize != "" && ext {
		opts = append(opts, "-E resize="+in.MaxOnlineResize)
	}
	if in.RootFSType == "ext4" {
		// The kernel of this one release cannot mount the feature.
		if in.Release == "trusty" {
			opts = append(opts, "-O ^metadata_csum")
		}
		journal, err := journalMiB(in.JournalMiB)
		if err != nil {
			return "", err
		}
		opts = append(opts, fmt.Sprintf("-i 4096 -J size=%d", journal))
	}
	if in.Options != "" {
		opts = append(opts, in.Options)
	}
	return strings.Join(opts, " "), nil
}
