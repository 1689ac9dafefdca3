package extfs

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const xattrMagic = 0xea020000

// prefixes are those that names of attributes are stored without.
var prefixes = map[byte]string{
	0: "", 1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security.", 7: "system.", 8: "system.richacl",
}

// inlineAttribute holds what of a small file does not fit into the inode proper.
const inlineAttribute = "system.data"

// xattrs reads the attributes of a file, as getxattr(2) gives them.
func (f *FS) xattrs(i *inode) (map[string]string, error) {
	raw, err := f.rawXattrs(i)
	if err != nil {
		return nil, err
	}
	delete(raw, inlineAttribute)
	var attrs map[string]string
	for name, value := range raw {
		if name == "system.posix_acl_access" || name == "system.posix_acl_default" {
			if value, err = acl(value); err != nil {
				return nil, err
			}
		}
		if attrs == nil {
			attrs = map[string]string{}
		}
		attrs[name] = string(value)
	}
	return attrs, nil
}

func (f *FS) rawXattrs(i *inode) (map[string][]byte, error) {
	attrs := map[string][]byte{}
	if extra := i.extra(); extra > 0 {
		if body := i.raw[128+extra:]; len(body) >= 4 && le.Uint32(body) == xattrMagic {
			if err := f.entries(body[4:], body[4:], attrs); err != nil {
				return nil, err
			}
		}
	}
	if at := uint64(le.Uint32(i.raw[104:])) | uint64(le.Uint16(i.raw[118:]))<<32; at != 0 {
		b, err := f.block(at)
		if err != nil {
			return nil, err
		}
		if le.Uint32(b) != xattrMagic {
			return nil, errors.New("its extended attributes are damaged")
		}
		if err := f.entries(b[32:], b, attrs); err != nil {
			return nil, err
		}
	}
	return attrs, nil
}

// entries reads a list; offsets of values count from the beginning of values.
func (f *FS) entries(list, values []byte, attrs map[string][]byte) error {
	damaged := errors.New("its extended attributes are damaged")
	for len(list) >= 4 && le.Uint32(list) != 0 {
		if len(list) < 16 || 16+int(list[0]) > len(list) {
			return damaged
		}
		prefix, known := prefixes[list[1]]
		if !known {
			return fmt.Errorf("an extended attribute of the unknown kind %d", list[1])
		}
		name := prefix + string(list[16:16+int(list[0])])
		offset, number, size := int(le.Uint16(list[2:])), le.Uint32(list[4:]), int64(le.Uint32(list[8:]))
		const most = 1 << 16 // XATTR_SIZE_MAX
		switch {
		case size > most:
			return damaged
		case number != 0:
			i, err := f.inode(number)
			if err != nil {
				return err
			}
			if i.size() != size || i.flags()&flagInline != 0 {
				return damaged
			}
			if attrs[name], err = f.readAll(i, most); err != nil {
				return err
			}
		case offset+int(size) > len(values):
			return damaged
		default:
			attrs[name] = values[offset : offset+int(size)]
		}
		step := (16 + int(list[0]) + 3) &^ 3
		if step > len(list) {
			return damaged
		}
		list = list[step:]
	}
	return nil
}

// acl turns an access control list as stored into the one of the system call.
func acl(b []byte) ([]byte, error) {
	damaged := errors.New("its access control list is damaged")
	if len(b) < 4 || le.Uint32(b) != 1 {
		return nil, damaged
	}
	out := binary.LittleEndian.AppendUint32(nil, 2)
	for b = b[4:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, damaged
		}
		const user, group = 2, 8
		tag, id := le.Uint16(b), uint32(0xffffffff)
		out = append(out, b[:4]...)
		b = b[4:]
		if tag == user || tag == group {
			if len(b) < 4 {
				return nil, damaged
			}
			id = le.Uint32(b)
			b = b[4:]
		}
		out = le.AppendUint32(out, id)
	}
	return out, nil
}
