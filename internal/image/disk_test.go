package image

import (
	"context"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

func TestExtentList(t *testing.T) {
	l := ExtentList{most: 4}
	rnd := rand.New(rand.NewPCG(3, 4))
	var added []Extent
	off := int64(0)
	for range 1000 {
		off += rnd.Int64N(20_000)
		length := 1 + rnd.Int64N(100)
		l.Add(off, length)
		added = append(added, Extent{off, length})
		off += length
	}
	list := l.List()
	if len(list) > 4 {
		t.Fatalf("%d extents, want 4 at most", len(list))
	}
	for _, e := range added {
		held := false
		for _, have := range list {
			held = held || have.Off <= e.Off && e.End() <= have.End()
		}
		if !held {
			t.Fatalf("%v is in none of %v", e, list)
		}
	}
	if _, err := NewSource(strings.NewReader(""), off, list); err != nil {
		t.Error(err)
	}
}

func TestUnionAndClip(t *testing.T) {
	for _, c := range []struct{ a, b, want []Extent }{
		{nil, nil, nil},
		{[]Extent{{0, 5}}, nil, []Extent{{0, 5}}},
		{[]Extent{{0, 5}, {20, 5}}, []Extent{{5, 1}, {22, 10}}, []Extent{{0, 6}, {20, 12}}},
		{[]Extent{{0, 100}}, []Extent{{5, 1}, {22, 10}}, []Extent{{0, 100}}},
		{[]Extent{{7, 1}}, []Extent{{5, 1}, {9, 1}}, []Extent{{5, 1}, {7, 1}, {9, 1}}},
	} {
		if got := Union(c.a, c.b); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
	for size, want := range map[int64][]Extent{0: nil, 5: {{0, 5}}, 12: {{0, 5}, {10, 2}}, 15: {{0, 5}, {10, 5}}, 99: {{0, 5}, {10, 5}}} {
		if got := Clip([]Extent{{0, 5}, {10, 5}}, size); !reflect.DeepEqual(got, want) {
			t.Errorf("clipped to %d: %v, want %v", size, got, want)
		}
	}
}

func TestDiskSourceGrows(t *testing.T) {
	d, err := Flat(strings.NewReader("disk"), 4)
	if err != nil {
		t.Fatal(err)
	}
	s, err := DiskSource(context.Background(), d, 8)
	if err != nil {
		t.Fatal(err)
	}
	b := []byte("12345678")
	if n, _ := s.ReadAt(b, 0); n != 8 || string(b) != "disk\x00\x00\x00\x00" {
		t.Errorf("%d bytes: %q", n, b)
	}
}
