package tarball

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/tree"
)

// OCI is an image of one layer, compressed with gzip, as an OCI image layout in
// a tar archive: what skopeo and podman call oci-archive.
//
// Source: https://github.com/opencontainers/image-spec, version 1.1: image-layout.md,
// manifest.md, config.md, annotations.md.
type OCI struct{}

// Name implements tree.Format.
func (OCI) Name() string { return "oci" }

// Extension implements tree.Format.
func (OCI) Extension() string { return "oci.tar" }

const (
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// descriptor points to a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *platform         `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

// Write implements tree.Format. As in docker's, the layer comes first, and its
// header is written last.
func (OCI) Write(ctx context.Context, t *tree.Tree, out tree.Output, set tree.Settings, progress image.Progress) error {
	if err := writeOCI(ctx, t, out, set, progress); err != nil {
		return fmt.Errorf("cannot write oci image: %w", err)
	}
	return nil
}

func writeOCI(ctx context.Context, t *tree.Tree, out tree.Output, set tree.Settings, progress image.Progress) error {
	name, err := ParseTag(set.Tag)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(out, 1<<20)
	if _, err := b.Write(make([]byte, blockSize)); err != nil { // where the header of the layer will be
		return err
	}
	content, packed := sha256.New(), sha256.New()
	size := int64(0)
	count := writerFunc(func(p []byte) (int, error) {
		size += int64(len(p))
		return len(p), nil
	})
	layer := simple{layout: layout{root: ".", inFull: true}, compress: func(ctx context.Context, in io.Reader, w io.Writer, set tree.Settings) error {
		set.Gzip = nil // that is for tgz
		return compressGzip(ctx, io.TeeReader(in, content), w, set)
	}}
	if err := layer.write(ctx, t, io.MultiWriter(b, packed, count), set, progress); err != nil {
		return err
	}
	at := newest(t)
	head := header{name: blobName(hex.EncodeToString(packed.Sum(nil))), typ: typeRegular, mode: 0o644, size: size, modTime: at}
	a := &archive{ctx: ctx, w: b, pos: blockSize + size}
	if err := a.write(make([]byte, padding(size))); err != nil {
		return err
	}
	config := configOf(hex.EncodeToString(content.Sum(nil)), at, set.Arch)
	m := manifest{SchemaVersion: 2, MediaType: ociManifest,
		Layers: []descriptor{{MediaType: ociLayer, Digest: "sha256:" + hex.EncodeToString(packed.Sum(nil)), Size: size}}}
	if m.Config, err = a.blob(ociConfig, config, at); err != nil {
		return err
	}
	top, err := a.blob(ociManifest, m, at)
	if err != nil {
		return err
	}
	top.Annotations = map[string]string{"org.opencontainers.image.ref.name": name[strings.LastIndexByte(name, ':')+1:]}
	top.Platform = &platform{config.Architecture, config.OS, config.Variant}
	data, err := json.Marshal(index{SchemaVersion: 2, MediaType: ociIndex, Manifests: []descriptor{top}})
	if err != nil {
		return err
	}
	if err := a.file("index.json", data, at); err != nil {
		return err
	}
	if err := a.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), at); err != nil {
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

func blobName(digest string) string { return "blobs/sha256/" + digest }

// blob adds a value as JSON under the name of its digest.
func (a *archive) blob(mediaType string, value any, modTime int64) (descriptor, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return descriptor{}, err
	}
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	return descriptor{MediaType: mediaType, Digest: "sha256:" + digest, Size: int64(len(data))}, a.file(blobName(digest), data, modTime)
}
