package disk

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/dib-builder/dib/internal/blockdev"
)

// swapPage is the page size of the machines that use the swap area (bytes).
// Those with larger pages do not recognise it, as with DIB on an x86 host.
const swapPage = 4096

// swapMinPages is the size below which the kernel refuses a swap area.
const swapMinPages = 10

// writeSwap writes the header of a swap area (union swap_header of the kernel's
// include/linux/swap.h).
func writeSwap(w io.WriterAt, fs blockdev.Filesystem) error {
	pages := fs.Length / swapPage
	if pages < swapMinPages {
		return fmt.Errorf("cannot make swap area %s: %d bytes are less than %d pages of %d bytes", fs.Node, fs.Length, swapMinPages, swapPage)
	}
	id, err := uuid.Parse(fs.UUID)
	if err != nil {
		return fmt.Errorf("cannot make swap area %s: UUID %q: %w", fs.Node, fs.UUID, err)
	}
	if pages > 1<<32 {
		return fmt.Errorf("cannot make swap area %s: %d bytes are more than a header can say", fs.Node, fs.Length)
	}
	h := make([]byte, swapPage)
	binary.LittleEndian.PutUint32(h[1024:], 1) // version
	binary.LittleEndian.PutUint32(h[1028:], uint32(pages-1))
	copy(h[1036:], id[:])
	copy(h[1052:1052+16], fs.Label)
	copy(h[swapPage-10:], "SWAPSPACE2")
	if _, err := w.WriteAt(h, fs.Offset); err != nil {
		return fmt.Errorf("cannot write swap area %s: %w", fs.Node, err)
	}
	return nil
}
