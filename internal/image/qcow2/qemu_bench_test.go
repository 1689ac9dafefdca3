package qcow2_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/qcow2"
)

// BenchmarkAgainstQemuImg compares speed and size with qemu-img on a disk of
// the caller's choice:
//
//	DIB_BENCH_RAW=disk.raw go test -run - -bench AgainstQemuImg -benchtime 1x ./internal/image/qcow2
//
// Times and sizes are reported as metrics; the ratios are ours to qemu-img's.
func BenchmarkAgainstQemuImg(b *testing.B) {
	raw := os.Getenv("DIB_BENCH_RAW")
	if raw == "" {
		b.Skip("DIB_BENCH_RAW names no raw disk image")
	}
	qemuImg, err := exec.LookPath("qemu-img")
	if err != nil {
		b.Skip("qemu-img is not installed")
	}
	for _, tc := range []struct {
		name     string
		compress bool
		args     []string
	}{
		{"zlib", true, []string{"-c"}},
		{"zlib-W-m8", true, []string{"-c", "-W", "-m", "8"}},
		{"zstd-W-m8", true, []string{"-c", "-W", "-m", "8", "-o", "compression_type=zstd"}},
		{"plain", false, nil},
	} {
		b.Run(tc.name, func(b *testing.B) {
			dir := b.TempDir()
			opts := image.Options{Compress: tc.compress}
			if len(tc.args) == 6 {
				opts.Settings, _ = image.ParseSettings(tc.args[5])
			}
			var ours, theirs time.Duration
			var oursSize, theirsSize int64
			for b.Loop() {
				out := filepath.Join(dir, "ours")
				begin := time.Now()
				writeFile(b, raw, out, opts)
				ours += time.Since(begin)
				oursSize = fileSize(b, out)

				out = filepath.Join(dir, "theirs")
				args := append([]string{"convert", "-f", "raw", "-O", "qcow2"}, tc.args...)
				begin = time.Now()
				if text, err := exec.Command(qemuImg, append(args, raw, out)...).CombinedOutput(); err != nil {
					b.Fatalf("qemu-img: %v: %s", err, text)
				}
				theirs += time.Since(begin)
				theirsSize = fileSize(b, out)
			}
			n := float64(b.N)
			b.ReportMetric(ours.Seconds()/n, "s")
			b.ReportMetric(theirs.Seconds()/n, "s(qemu-img)")
			b.ReportMetric(float64(ours)/float64(theirs), "time-ratio")
			b.ReportMetric(float64(oursSize)/float64(theirsSize), "size-ratio")
		})
	}
}

func writeFile(tb testing.TB, raw, out string, opts image.Options) {
	tb.Helper()
	src, err := image.OpenSource(raw)
	if err != nil {
		tb.Fatal(err)
	}
	defer src.Close()
	f, err := os.Create(out)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if err := (qcow2.Format{}).Write(context.Background(), src, f, opts, nil); err != nil {
		tb.Fatal(err)
	}
}

func fileSize(tb testing.TB, path string) int64 {
	tb.Helper()
	st, err := os.Stat(path)
	if err != nil {
		tb.Fatal(err)
	}
	return st.Size()
}
