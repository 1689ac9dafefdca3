package output

import (
	"errors"
	"fmt"
)

// sidecar is a small file that belongs to a pending one: its checksum.
type sidecar struct {
	suffix string
	file   *Pending
}

// Attach adds a checksum file: the name of the file it is about and suffix,
// which is one that a Policy's renaming knows. It appears with the file, never
// without it.
func (p *Pending) Attach(suffix string, data []byte) error {
	s, err := create(p.path+suffix, openUnnamed)
	if err != nil {
		return err
	}
	if _, err := s.file.Write(data); err != nil {
		s.Abort()
		return fmt.Errorf("cannot write %q: %w", s.path, err)
	}
	p.sidecars = append(p.sidecars, sidecar{suffix, s})
	return nil
}

func (p *Pending) syncSidecars() error {
	var errs []error
	for _, s := range p.sidecars {
		errs = append(errs, s.file.file.Sync())
	}
	return errors.Join(errs...)
}

// publishSidecars gives the checksum files their names. It comes after the file
// itself has its name, so that a build that is killed between the two leaves a
// file without checksums, not checksums of another file.
func (p *Pending) publishSidecars() error {
	var errs []error
	for _, s := range p.sidecars {
		errs = append(errs, s.file.replace())
	}
	return errors.Join(errs...)
}
