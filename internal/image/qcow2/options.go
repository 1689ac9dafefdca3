package qcow2

import (
	"fmt"
	"math/bits"

	"github.com/dib-builder/dib/internal/image"
)

// params are the checked options of one image.
type params struct {
	version       uint32
	clusterBits   uint
	compress      bool
	compression   compressionType
	lazyRefcounts bool
}

// parseOptions reads the options qemu-img knows for qcow2. Values that ask for
// what the image is anyway (preallocation=off) are accepted.
func parseOptions(opts image.Options, size int64) (params, error) {
	p := params{version: 3, clusterBits: defaultCluster, compress: opts.Compress}
	for _, s := range opts.Settings {
		if err := p.set(s.Key, s.Value); err != nil {
			return p, fmt.Errorf("cannot use image option %s=%s: %w", s.Key, s.Value, err)
		}
	}
	if p.version < 3 && p.compression != zlibCompression {
		return p, fmt.Errorf("cannot use image option compression_type=zstd: needs compat=1.1")
	}
	if p.version < 3 && p.lazyRefcounts {
		return p, fmt.Errorf("cannot use image option lazy_refcounts=on: needs compat=1.1")
	}
	if size < 0 {
		return p, fmt.Errorf("internal error: qcow2: negative disk size %d", size)
	}
	if n := l1Entries(uint64(size), p.clusterBits); n*8 > maxL1Bytes {
		return p, fmt.Errorf("cannot make a qcow2 image of %d bytes with clusters of %d bytes: larger than QEMU can open; use a larger cluster_size", size, 1<<p.clusterBits)
	}
	return p, nil
}

func (p *params) set(key, value string) error {
	switch key {
	case "compat":
		switch value {
		case "0.10", "v2":
			p.version = 2
		case "1.1", "v3":
			p.version = 3
		default:
			return fmt.Errorf("want 0.10 or 1.1")
		}
	case "cluster_size":
		n, err := image.ParseSize(value)
		if err != nil {
			return err
		}
		if n < 1<<minClusterBits || n > 1<<maxClusterBits || n&(n-1) != 0 {
			return fmt.Errorf("want a power of two from 512 to 2M")
		}
		p.clusterBits = uint(bits.TrailingZeros64(uint64(n)))
	case "compression_type":
		switch value {
		case "zlib":
			p.compression = zlibCompression
		case "zstd":
			p.compression = zstdCompression
		default:
			return fmt.Errorf("want zlib or zstd")
		}
	case "lazy_refcounts":
		on, err := parseBool(value)
		p.lazyRefcounts = on
		return err
	case "preallocation":
		return only(value, "off")
	case "refcount_bits":
		return only(value, "16")
	case "encryption", "extended_l2", "data_file_raw":
		on, err := parseBool(value)
		if err == nil && on {
			err = image.ErrUnsupported
		}
		return err
	case "nocow":
		_, err := parseBool(value) // a hint to btrfs about the file, not part of the image
		return err
	case "backing_file", "backing_fmt", "data_file", "size",
		"encrypt.format", "encrypt.key-secret", "encrypt.cipher-alg", "encrypt.cipher-mode",
		"encrypt.ivgen-alg", "encrypt.ivgen-hash-alg", "encrypt.hash-alg", "encrypt.iter-time":
		return image.ErrUnsupported
	default:
		return fmt.Errorf("qcow2 has no such option")
	}
	return nil
}

// only accepts one of the values that qemu-img would.
func only(value, want string) error {
	if value != want {
		return fmt.Errorf("only %q: %w", want, image.ErrUnsupported)
	}
	return nil
}

func parseBool(value string) (bool, error) {
	switch value {
	case "on", "yes", "true", "y":
		return true, nil
	case "off", "no", "false", "n":
		return false, nil
	}
	return false, fmt.Errorf("want on or off")
}

// keys are the settings that params.set knows, in the order of qemu-img's help.
var keys = []string{
	"backing_file", "backing_fmt", "cluster_size", "compat", "compression_type", "data_file", "data_file_raw",
	"encrypt.cipher-alg", "encrypt.cipher-mode", "encrypt.format", "encrypt.hash-alg", "encrypt.iter-time",
	"encrypt.ivgen-alg", "encrypt.ivgen-hash-alg", "encrypt.key-secret", "encryption", "extended_l2",
	"lazy_refcounts", "nocow", "preallocation", "refcount_bits", "size",
}
