package ext

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum continues a CRC-32C as the kernel does, without the inversions at
// both ends that the standard library makes.
func checksum(seed uint32, data ...[]byte) uint32 {
	for _, d := range data {
		seed = ^crc32.Update(^seed, castagnoli, d)
	}
	return seed
}

func le32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// halfMD4 is the hash by which directories are indexed, of names as unsigned
// bytes (fs/ext4/hash.c).
func halfMD4(name string, seed [4]uint32) (hash, minor uint32) {
	buf := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	if seed != [4]uint32{} {
		buf = seed
	}
	for rest := name; len(rest) > 0; {
		halfMD4Round(&buf, hashWords(rest))
		rest = rest[min(len(rest), 32):]
	}
	hash = buf[1] &^ 1
	if hash == 0xfffffffe { // the mark for the end of a directory
		hash = 0xfffffffc
	}
	return hash, buf[2]
}

func hashWords(s string) (in [8]uint32) {
	pad := uint32(len(s)) | uint32(len(s))<<8
	pad |= pad << 16
	s = s[:min(len(s), 32)]
	for i := range in {
		in[i] = pad
		part := s[min(4*i, len(s)):min(4*i+4, len(s))]
		for k := range len(part) {
			in[i] = in[i]<<8 + uint32(part[k])
		}
	}
	return in
}

func halfMD4Round(buf *[4]uint32, in [8]uint32) {
	a, b, c, d := buf[0], buf[1], buf[2], buf[3]
	f := func(x, y, z uint32) uint32 { return z ^ x&(y^z) }
	g := func(x, y, z uint32) uint32 { return x&y + (x^y)&z }
	h := func(x, y, z uint32) uint32 { return x ^ y ^ z }
	round := func(mix func(x, y, z uint32) uint32, constant uint32, order [8]int, shifts [4]int) {
		for i, word := range order {
			a += mix(b, c, d) + in[word] + constant
			a, b, c, d = d, bits.RotateLeft32(a, shifts[i%4]), b, c
		}
	}
	round(f, 0, [8]int{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19})
	round(g, 0x5a827999, [8]int{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13})
	round(h, 0x6ed9eba1, [8]int{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15})
	buf[0] += a
	buf[1] += b
	buf[2] += c
	buf[3] += d
}
