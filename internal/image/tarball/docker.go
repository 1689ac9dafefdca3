package tarball

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/tree"
)

// Docker is an image of one layer in the archive format of "docker save",
// version 1.2, which docker, podman, skopeo and containerd load.
//
// Source: https://github.com/moby/moby, image/spec/spec.md, "Combined Image
// JSON + Filesystem Changeset Format".
type Docker struct{}

// Name implements tree.Format.
func (Docker) Name() string { return "docker" }

// Extension implements tree.Format.
func (Docker) Extension() string { return "docker.tar" }

// imageConfig is the part of an image's configuration that a bare root
// filesystem has.
type imageConfig struct {
	Architecture string    `json:"architecture"`
	Variant      string    `json:"variant,omitempty"`
	OS           string    `json:"os"`
	Created      time.Time `json:"created"`
	Config       struct{}  `json:"config"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []history `json:"history"`
}

type history struct {
	Created time.Time `json:"created"`
	Comment string    `json:"comment"`
}

type manifestItem struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Write implements tree.Format. The layer comes first, and its header, which
// has its digest and its size, is written last.
func (Docker) Write(ctx context.Context, t *tree.Tree, out tree.Output, set tree.Settings, progress image.Progress) error {
	if err := writeDocker(ctx, t, out, set, progress); err != nil {
		return fmt.Errorf("cannot write docker image: %w", err)
	}
	return nil
}

func writeDocker(ctx context.Context, t *tree.Tree, out tree.Output, set tree.Settings, progress image.Progress) error {
	tag, err := ParseTag(set.Tag)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(out, 1<<20)
	if _, err := b.Write(make([]byte, blockSize)); err != nil { // where the header of the layer will be
		return err
	}
	digest := sha256.New()
	// Layers hold their files in full: of sparse ones the OCI image
	// specification says that support is not consistent.
	layer, err := writeTree(ctx, io.MultiWriter(b, digest), t, layout{root: ".", inFull: true}, set, progress)
	if err != nil {
		return err
	}
	if err := layer.end(); err != nil {
		return err
	}
	id := hex.EncodeToString(digest.Sum(nil))
	at := newest(t)
	head := header{name: id + ".tar", typ: typeRegular, mode: 0o644, size: layer.pos, modTime: at}

	// A layer is a whole number of blocks, so the next member follows at once.
	a := &archive{ctx: ctx, w: b, pos: blockSize + layer.pos}
	config, err := json.Marshal(configOf(id, at, set.Arch))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(config)
	configName := hex.EncodeToString(sum[:]) + ".json"
	manifest, err := json.Marshal([]manifestItem{{configName, []string{tag}, []string{head.name}}})
	if err != nil {
		return err
	}
	if err := a.file(configName, config, at); err != nil {
		return err
	}
	if err := a.file("manifest.json", manifest, at); err != nil {
		return err
	}
	if err := a.end(); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	_, err = out.WriteAt(head.single(), 0)
	return err
}

func configOf(layer string, at int64, arch string) imageConfig {
	created := time.Unix(at, 0).UTC()
	c := imageConfig{OS: "linux", Created: created, History: []history{{created, "made by dib of a root filesystem"}}}
	c.Architecture, c.Variant = goArch(arch)
	c.RootFS.Type = "layers"
	c.RootFS.DiffIDs = []string{"sha256:" + layer}
	return c
}

// goArch names an architecture as images do, which is as Go does.
func goArch(arch string) (name, variant string) {
	switch arch {
	case "x86_64", "":
		return "amd64", ""
	case "i386", "i486", "i586", "i686":
		return "386", ""
	case "aarch64":
		return "arm64", ""
	case "armhf", "armv7l":
		return "arm", "v7"
	case "armel":
		return "arm", "v5"
	case "ppc64el":
		return "ppc64le", ""
	}
	return arch, ""
}

// The grammar of image names: github.com/distribution/reference.
var (
	repositoryForm = regexp.MustCompile(`^([a-zA-Z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
)

// ParseTag checks NAME[:TAG] of an image and adds the tag "latest" if there is none.
func ParseTag(text string) (string, error) {
	name, tag := text, "latest"
	if at := strings.LastIndexByte(text, ':'); at > strings.LastIndexByte(text, '/') {
		name, tag = text[:at], text[at+1:]
	}
	if !repositoryForm.MatchString(name) || len(name) > 255 {
		return "", fmt.Errorf("%q is not a docker image name: want lower-case letters, digits and . _ - / as in registry/name:tag", text)
	}
	if !tagForm.MatchString(tag) {
		return "", fmt.Errorf("%q is not a docker image name: its tag %q may have letters, digits and . _ -, at most 128", text, tag)
	}
	return name + ":" + tag, nil
}
