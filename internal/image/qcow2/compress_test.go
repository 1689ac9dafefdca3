package qcow2

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestLooksRandom(t *testing.T) {
	const size = 64 << 10
	random := make([]byte, size)
	for seed := range byte(50) {
		source := rand.NewChaCha8([32]byte{seed})
		_, _ = source.Read(random)
		if !looksRandom(random) {
			t.Errorf("random bytes of seed %d are taken for compressible", seed)
		}
	}
	ramp := make([]byte, size)
	for i := range ramp {
		ramp[i] = byte(i)
	}
	halfText := bytes.Clone(random)
	copy(halfText, bytes.Repeat([]byte("It was a dark and stormy night. "), size/64))
	for name, data := range map[string][]byte{
		"zeros": make([]byte, size), "text": bytes.Repeat([]byte("all work and no play "), size/21),
		"a ramp": ramp, "half text": halfText, "a short cluster": random[:4096],
	} {
		if looksRandom(data) {
			t.Errorf("%s looks random", name)
		}
	}
}
