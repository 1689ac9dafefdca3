package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/checksum"
	"github.com/dib-builder/dib/internal/image/formats"
	"github.com/dib-builder/dib/internal/image/output"
	"github.com/dib-builder/dib/internal/image/tree"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/run"
)

// writeTreeOutputs makes the outputs that are made of the tree, each of which
// appears under its final name when it is whole.
func (b *builder) writeTreeOutputs(ctx context.Context, src *sources) error {
	for _, out := range b.plan.Outputs {
		if !out.FromTree {
			continue
		}
		err := b.step("writing "+b.label(out), func() error { return b.writeArtifact(ctx, src, out) })
		if err != nil {
			return err
		}
		if out.Engine == "" {
			b.sink.Emit(event.Event{Kind: event.Artifact, Path: out.Path})
		}
	}
	return nil
}

func (b *builder) label(out plan.Output) string {
	if out.Engine != "" {
		return "docker image " + out.Tag
	}
	return filepath.Base(out.Path)
}

// sources are what artifacts are made of, read when the first needs it.
type sources struct{ tree *tree.Tree }

func (b *builder) readTree(ctx context.Context, s *sources) (*tree.Tree, error) {
	if s.tree != nil {
		return s.tree, nil
	}
	side, err := b.sideEntries(place.TreeDir)
	if err != nil {
		return nil, err
	}
	opt := tree.Options{Side: side, Enter: b.backend.keep()}
	if v := b.env["SOURCE_DATE_EPOCH"]; v != "" {
		if opt.Epoch, err = strconv.ParseInt(v, 10, 64); err != nil || opt.Epoch < 0 {
			return nil, fmt.Errorf("cannot read the image tree: SOURCE_DATE_EPOCH %q is not a number of seconds", v)
		}
	}
	s.tree, err = tree.Read(ctx, place.TreeDir, opt)
	return s.tree, err
}

// writeArtifact writes one output and gives it its name.
func (b *builder) writeArtifact(ctx context.Context, src *sources, out plan.Output) error {
	progress := b.progress(out)
	if out.Engine != "" {
		return b.fillScratch(ctx, src, out, progress)
	}
	return b.save(ctx, out.Path, func(file *checksum.File) error { return b.writeTree(ctx, src, out, file, progress) })
}

func (b *builder) progress(out plan.Output) image.Progress {
	step := "writing " + b.label(out)
	return func(done, total int64) {
		b.sink.Emit(event.Event{Kind: event.Progress, Step: step, Done: done, Total: total, Unit: "bytes"})
	}
}

// save has a file written, gives it its name by the rules for images, and
// writes the checksums that were asked for.
func (b *builder) save(ctx context.Context, path string, write func(*checksum.File) error) error {
	pending, err := b.fill(ctx, path, write)
	if err != nil {
		return err
	}
	return b.publish(pending)
}

// fill has a file written and its checksums computed. It has no name yet.
func (b *builder) fill(ctx context.Context, path string, write func(*checksum.File) error) (_ *output.Pending, err error) {
	digests, err := checksum.Parse(b.plan.Recipe.Checksum)
	if err != nil {
		return nil, err
	}
	pending, err := output.Create(b.abs(path))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			pending.Abort()
		}
	}()
	file := checksum.NewFile(pending.File(), digests)
	defer file.Close()
	if err := write(file); err != nil {
		return nil, err
	}
	sums, err := file.Sums(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range sums {
		if err := pending.Attach("."+s.Name, []byte(s.Line(path))); err != nil {
			return nil, err
		}
	}
	return pending, nil
}

// publish gives a file its name.
func (b *builder) publish(pending *output.Pending) error {
	saved, err := pending.Commit(output.Policy{Overwrite: on(b.env["OVERWRITE_OLD_IMAGE"])})
	if err != nil {
		return err
	}
	if saved != "" {
		b.logf("Old image found. Renaming it to %s", saved)
	}
	return nil
}

func (b *builder) writeTree(ctx context.Context, src *sources, out plan.Output, file *checksum.File, progress image.Progress) error {
	f, ok := formats.LookupTree(out.Type)
	if !ok {
		return fmt.Errorf("internal error: no writer for output format %q", out.Type)
	}
	t, err := b.readTree(ctx, src)
	if err != nil {
		return err
	}
	set, err := b.treeSettings(out)
	if err != nil {
		return err
	}
	return f.Write(ctx, t, file, set, progress)
}

// fillScratch writes a docker image to the file from which the supervisor,
// who can reach the caller's engine, will load it.
func (b *builder) fillScratch(ctx context.Context, src *sources, out plan.Output, progress image.Progress) error {
	f, err := os.OpenFile(b.abs(out.Path), os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("cannot write docker image: %w", err)
	}
	if err := b.writeTree(ctx, src, out, checksum.NewFile(f, nil), progress); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("cannot write docker image: %w", err)
	}
	return nil
}

func (b *builder) treeSettings(out plan.Output) (tree.Settings, error) {
	set := tree.Settings{Tag: out.Tag, Arch: b.plan.Recipe.Arch, Warn: b.warn}
	if v := b.env["DIB_GZIP_BIN"]; v != "" {
		set.Gzip = func(ctx context.Context, in io.Reader, w io.Writer) error {
			c := run.Cmd{Argv: append(gzipArgv(v), "-9"), Dir: b.cwd, Env: b.hostEnv(nil), Stdin: in, Stdout: w, Log: b.log}
			return c.Run(ctx)
		}
	}
	if v := b.env["ACI_MANIFEST"]; v != "" && out.Type == "aci" {
		var err error
		if set.Manifest, err = os.ReadFile(b.abs(v)); err != nil {
			return set, fmt.Errorf("cannot read the manifest named by ACI_MANIFEST: %w", err)
		}
	}
	return set, nil
}

// gzipArgv reads DIB_GZIP_BIN: the path of a program, or a program and its
// arguments separated by blanks.
func gzipArgv(value string) []string {
	if st, err := os.Stat(value); err == nil && st.Mode().IsRegular() {
		return []string{value}
	}
	return strings.Fields(value)
}

// imageOptions are the options for an artifact of the given disk format.
func imageOptions(rec recipe.Recipe, format string) (image.Options, error) {
	settings, err := image.ParseSettings(rec.QemuImgOptions)
	return image.Options{Compress: rec.Compress, Settings: formats.Settings(settings, format, rec.Types)}, err
}

// checkFormats refuses output formats, and what they need, before anything runs.
func checkFormats(rec recipe.Recipe) []error {
	var problems []error
	for _, t := range rec.Types {
		if _, ok := formats.LookupTree(t); ok {
			problems = append(problems, checkTreeFormat(rec, t))
			continue
		}
		f, ok := formats.Lookup(t)
		if !ok {
			problems = append(problems, fmt.Errorf("cannot write output format %q: there is no writer for it", t))
			continue
		}
		opts, err := imageOptions(rec, t)
		if err == nil {
			err = f.Check(opts, 0)
		}
		problems = append(problems, err)
	}
	_, err := checksum.Parse(rec.Checksum)
	return append(problems, err)
}

func checkTreeFormat(rec recipe.Recipe, format string) error {
	switch v := rec.Env["DIB_GZIP_BIN"]; {
	case format == "tgz" && v != "":
		argv := gzipArgv(v)
		if len(argv) == 0 {
			return fmt.Errorf("cannot use DIB_GZIP_BIN=%q: it names no program", v)
		}
		if _, err := run.LookPath(argv[0], "", plan.Env(rec.Env).Environ()); err != nil {
			return fmt.Errorf("cannot use DIB_GZIP_BIN=%q: %w; unset it to use the built-in compression", v, err)
		}
	case format == "aci" && rec.Env["ACI_MANIFEST"] != "":
		f, err := os.Open(rec.Env["ACI_MANIFEST"])
		if err != nil {
			return fmt.Errorf("cannot read the manifest named by ACI_MANIFEST: %w", err)
		}
		return f.Close()
	}
	return nil
}
