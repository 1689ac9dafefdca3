package ext

import (
	"fmt"
	"math/bits"
)

// run is a number of blocks that follow each other.
type run struct{ start, count int64 }

// allocator hands out the blocks of a filesystem, from the front to the back.
type allocator struct {
	blocks int64
	used   []uint64
	free   int64
	cursor int64
}

func newAllocator(blocks int64) *allocator {
	return &allocator{blocks: blocks, used: make([]uint64, ceil(blocks, 64)), free: blocks}
}

func (a *allocator) isUsed(b int64) bool { return a.used[b/64]&(1<<(b%64)) != 0 }

// take marks blocks that have a fixed place.
func (a *allocator) take(start, count int64) {
	for b := start; b < start+count; b++ {
		if !a.isUsed(b) {
			a.used[b/64] |= 1 << (b % 64)
			a.free--
		}
	}
}

// nextFree is the first free block from b on; a.blocks if there is none.
func (a *allocator) nextFree(b int64) int64 {
	for b < a.blocks {
		if word := ^a.used[b/64] >> (b % 64); word != 0 {
			return min(b+int64(bits.TrailingZeros64(word)), a.blocks)
		}
		b = (b/64 + 1) * 64
	}
	return a.blocks
}

// runAt is the length of the free run at b, up to limit.
func (a *allocator) runAt(b, limit int64) int64 {
	end := min(b+limit, a.blocks)
	n := b
	for n < end {
		if word := a.used[n/64] >> (n % 64); word != 0 {
			return min(n+int64(bits.TrailingZeros64(word)), end) - b
		}
		n = (n/64 + 1) * 64
	}
	return min(n, end) - b
}

// contiguous takes count blocks in one run, from the given block on.
func (a *allocator) contiguous(from, count int64) (int64, error) {
	for b := a.nextFree(from); b < a.blocks; {
		n := a.runAt(b, count)
		if n == count {
			a.take(b, count)
			return b, nil
		}
		b = a.nextFree(b + n)
	}
	return 0, fmt.Errorf("%w: no %d free blocks in a row", ErrNoSpace, count)
}

// alloc takes count blocks in as few runs as there are.
func (a *allocator) alloc(count int64) ([]run, error) {
	if count > a.free {
		return nil, ErrNoSpace
	}
	var runs []run
	for count > 0 {
		b := a.nextFree(a.cursor)
		n := a.runAt(b, count)
		a.take(b, n)
		a.cursor = b + n
		runs = append(runs, run{b, n})
		count -= n
	}
	return runs, nil
}

// bitmap is the block bitmap of a group; what lies beyond its end is marked.
func (a *allocator) bitmap(group int64) []byte {
	out := make([]byte, blockSize)
	first := group * blocksPerGroup
	for i := range int64(blocksPerGroup) {
		if b := first + i; b >= a.blocks || a.isUsed(b) {
			out[i/8] |= 1 << (i % 8)
		}
	}
	return out
}

func (a *allocator) freeIn(first, count int64) int64 {
	free := int64(0)
	for b := first; b < first+count; {
		if b%64 == 0 && b+64 <= first+count {
			free += int64(64 - bits.OnesCount64(a.used[b/64]))
			b += 64
			continue
		}
		if !a.isUsed(b) {
			free++
		}
		b++
	}
	return free
}
