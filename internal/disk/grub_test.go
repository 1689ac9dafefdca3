package disk

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/blockdev"
)

func TestGrubSectors(t *testing.T) {
	d := layout(t, 64, "", tables["whole"]...).Disks[0]
	mbr := EncodeMBR(d.Table)[0].Data
	at, err := grubRoom(&d)
	if err != nil {
		t.Fatal(err)
	}
	boot := bytes.Repeat([]byte{0xb0}, 512)
	core := bytes.Repeat([]byte{0xc0}, 1300)
	sector, code, err := grubSectors(at, mbr, boot, core)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sector[0x1b8:], mbr[0x1b8:]) {
		t.Error("partition table or disk id was lost")
	}
	if !bytes.Equal(sector[3:0x5a], mbr[3:0x5a]) || sector[0] != 0xb0 || sector[0x5a] != 0xb0 || sector[0x1b7] != 0xb0 {
		t.Error("boot code is not where it belongs")
	}
	if got := binary.LittleEndian.Uint64(sector[0x5c:]); got != 1 {
		t.Errorf("boot sector loads sector %d; want 1", got)
	}
	if sector[0x64] != 0xff || sector[0x66] != 0x90 || sector[0x67] != 0x90 {
		t.Errorf("drive bytes are % x", sector[0x64:0x68])
	}
	if len(code) != 3*512 || code[1299] != 0xc0 || code[1300] != 0 {
		t.Errorf("core image has %d bytes", len(code))
	}
	want := []byte{2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 0x08}
	if !bytes.Equal(code[500:512], want) {
		t.Errorf("block list is % x; want % x", code[500:512], want)
	}
}

func TestGrubSectorsErrors(t *testing.T) {
	whole := layout(t, 64, "", tables["whole"]...).Disks[0]
	plain := layoutOf(t, 64, blockdev.Fallback).Disks[0]
	large := whole
	large.SectorSize = 4096
	for _, test := range []struct {
		name       string
		disk       blockdev.Disk
		boot, core int
		want       string
	}{
		{"no table", plain, 512, 1024, "no partition table"},
		{"sectors", large, 512, 1024, "sectors of 512 bytes, not 4096"},
		{"boot", whole, 511, 1024, "boot.img has 511 bytes"},
		{"core", whole, 512, 512, "only 512 bytes"},
		{"gap", whole, 512, 2048 * 512, "needs 2048 sectors, but only 2047 lie before"},
	} {
		at, err := grubRoom(&test.disk)
		if err == nil {
			_, _, err = grubSectors(at, [512]byte{}, make([]byte, test.boot), make([]byte, test.core))
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v; want %q", test.name, err, test.want)
		}
	}
}
