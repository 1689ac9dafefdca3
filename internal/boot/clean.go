package boot

// cleaner turns what a serial console receives into plain text: it drops
// terminal escape sequences, carriage returns and other control characters. It
// keeps its state between calls, so sequences may be cut anywhere.
type cleaner struct{ state cleanState }

type cleanState uint8

const (
	inText    cleanState = iota
	inEscape             // after ESC
	inCSI                // after ESC [, until a final byte
	inCharset            // after ESC ( and the like, one byte follows
	inString             // after ESC ] P ^ _ X, until BEL or ESC \
	inStringEnd
)

// append adds the text in p to dst.
func (c *cleaner) append(dst, p []byte) []byte {
	for _, b := range p {
		switch c.state {
		case inText:
			switch {
			case b == 0x1b:
				c.state = inEscape
			case b == '\n' || b == '\t' || b >= 0x20 && b != 0x7f:
				dst = append(dst, b)
			}
		case inEscape:
			switch b {
			case '[':
				c.state = inCSI
			case ']', 'P', '^', '_', 'X':
				c.state = inString
			case '(', ')', '*', '+', '#', '%', ' ':
				c.state = inCharset
			case 0x1b:
			default:
				c.state = inText
			}
		case inCSI:
			// A newline inside means the sequence was cut off by other output.
			if b == '\n' {
				dst = append(dst, b)
			}
			if b == '\n' || b >= 0x40 && b <= 0x7e {
				c.state = inText
			}
		case inCharset:
			c.state = inText
		case inString:
			switch b {
			case 0x07:
				c.state = inText
			case 0x1b:
				c.state = inStringEnd
			case '\n':
				dst = append(dst, b)
				c.state = inText
			}
		case inStringEnd:
			c.state = inText
		}
	}
	return dst
}
