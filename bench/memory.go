package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dib-builder/dib/test/lab"
)

// memoryWatch remembers the largest memory of every process that runs one
// binary. The kernel keeps the high-water mark of each process, so looking now
// and then misses only what a process takes in its last moments.
type memoryWatch struct {
	exe   string
	done  chan struct{}
	ended sync.WaitGroup
	mu    sync.Mutex
	peak  map[int]int64
}

func newMemoryWatch(exe string) *memoryWatch {
	return &memoryWatch{exe: exe, done: make(chan struct{}), peak: map[int]int64{}}
}

// follow looks at a running build until stop is called.
func (w *memoryWatch) follow(r *lab.Running) {
	w.ended.Add(1)
	defer w.ended.Done()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, p := range r.Processes() {
			// The name of the file is what matters: inside the sandbox it has other paths.
			if !strings.HasSuffix(strings.TrimSuffix(p.Exe, " (deleted)"), "/dib") && !strings.HasSuffix(p.Exe, "/.dib") && p.Exe != w.exe {
				continue
			}
			if peak, ok := highWater(p.PID); ok {
				w.mu.Lock()
				w.peak[p.PID] = max(w.peak[p.PID], peak)
				w.mu.Unlock()
			}
		}
		select {
		case <-w.done:
			return
		case <-tick.C:
		}
	}
}

// stop ends the watch and returns the largest process's peak in bytes.
func (w *memoryWatch) stop() int64 {
	close(w.done)
	w.ended.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var largest int64
	for _, v := range w.peak {
		largest = max(largest, v)
	}
	return largest
}

func highWater(pid int) (int64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}
