package sandbox

import (
	"bytes"
	"encoding/gob"
	"io"
	"os"
)

// encode writes what one stage hands to the next. It is not JSON, because that
// would change file names and variables that are not UTF-8.
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(value)
	return b.Bytes(), err
}

// decode reads, from its beginning, a file that encode's result was written to.
func decode(f *os.File, value any) error {
	return gob.NewDecoder(io.NewSectionReader(f, 0, 1<<62)).Decode(value)
}
