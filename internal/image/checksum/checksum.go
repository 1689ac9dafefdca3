// Package checksum computes the digests that DIB_CHECKSUM asks for, all in one
// pass over the data, and writes them as md5sum, sha256sum and their like do.
package checksum

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"

	"lukechampine.com/blake3"
)

// Algorithm is a kind of checksum.
type Algorithm struct {
	Name string // as in DIB_CHECKSUM, and the ending of the file's name without its dot
	New  func() hash.Hash
}

var algorithms = []Algorithm{
	{"md5", md5.New},
	{"sha256", sha256.New},
	{"sha512", sha512.New},
	{"blake3", func() hash.Hash { return blake3.New(32, nil) }},
}

// Parse reads DIB_CHECKSUM: empty or 0 for none, 1 for md5 and sha256, else
// names separated by commas or blanks, each in full or as the program is
// called (md5sum). The result is in a fixed order.
func Parse(value string) ([]Algorithm, error) {
	switch value {
	case "", "0":
		return nil, nil
	case "1":
		return slices.Clone(algorithms[:2]), nil
	}
	wanted := map[string]bool{}
	for _, word := range strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(", \t\n", r) }) {
		name := strings.TrimSuffix(word, "sum")
		if !slices.ContainsFunc(algorithms, func(a Algorithm) bool { return a.Name == name }) {
			return nil, fmt.Errorf("cannot use DIB_CHECKSUM=%q: there is no checksum %q; want 0, 1 (md5 and sha256), or a list of md5, sha256, sha512, blake3", value, word)
		}
		wanted[name] = true
	}
	if len(wanted) == 0 {
		return nil, fmt.Errorf("cannot use DIB_CHECKSUM=%q: it names no checksum; want 0, 1 (md5 and sha256), or a list of md5, sha256, sha512, blake3", value)
	}
	var list []Algorithm
	for _, a := range algorithms {
		if wanted[a.Name] {
			list = append(list, a)
		}
	}
	return list, nil
}

// Suffixes are the endings, with their dots, of all checksum files there can be.
func Suffixes() []string {
	var list []string
	for _, a := range algorithms {
		list = append(list, "."+a.Name)
	}
	return list
}

// Sum is one finished checksum.
type Sum struct {
	Name string // of the algorithm
	Hex  string
}

// Line is the content of the checksum file of the file path, which "md5sum -c"
// and its like understand. As they do, it escapes a path with line breaks or
// backslashes and says so by a backslash in front.
func (s Sum) Line(path string) string {
	escaped := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(path)
	mark := ""
	if escaped != path {
		mark = `\`
	}
	return mark + s.Hex + "  " + escaped + "\n"
}

// chunk is how much is digested at a time, in bytes.
const chunk = 1 << 20

// digester digests a stream beside its writer, every algorithm on its own
// processor.
type digester struct {
	algorithms []Algorithm
	hashes     []hash.Hash
	buf        []byte
	full, free chan []byte
	done       chan struct{}
}

func newDigester(list []Algorithm) *digester {
	d := &digester{algorithms: list, full: make(chan []byte), free: make(chan []byte, 3), done: make(chan struct{})}
	for _, a := range list {
		d.hashes = append(d.hashes, a.New())
	}
	for range 2 {
		d.free <- make([]byte, 0, chunk)
	}
	d.buf = make([]byte, 0, chunk)
	go d.run()
	return d
}

func (d *digester) run() {
	defer close(d.done)
	for buf := range d.full {
		var wait sync.WaitGroup
		for _, h := range d.hashes {
			wait.Go(func() { h.Write(buf) })
		}
		wait.Wait()
		d.free <- buf[:0]
	}
}

func (d *digester) write(p []byte) {
	for len(p) > 0 {
		n := min(len(p), chunk-len(d.buf))
		d.buf = append(d.buf, p[:n]...)
		p = p[n:]
		if len(d.buf) == chunk {
			d.full <- d.buf
			d.buf = <-d.free
		}
	}
}

// zeros stands for zeros that are not written.
var zeros [64 << 10]byte

func (d *digester) skip(n int64) {
	for ; n > 0; n -= min(n, int64(len(zeros))) {
		d.write(zeros[:min(n, int64(len(zeros)))])
	}
}

// stop ends the goroutine; nothing may be written afterwards.
func (d *digester) stop() {
	close(d.full)
	<-d.done
}

func (d *digester) sums() []Sum {
	if len(d.buf) > 0 {
		d.full <- d.buf
		d.buf = nil
	}
	d.stop()
	sums := make([]Sum, len(d.hashes))
	for i, h := range d.hashes {
		sums[i] = Sum{d.algorithms[i].Name, hex.EncodeToString(h.Sum(nil))}
	}
	return sums
}
