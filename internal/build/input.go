package build

import (
	"bytes"
	"encoding/gob"
)

// encodeInput writes the input of the engine. It is not JSON, because that
// would change file names that are not UTF-8.
func encodeInput(in engineInput) ([]byte, error) {
	p := *in.Plan
	p.SecretEnv = nil // travels beside the plan
	in.Plan = &p
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(in)
	return b.Bytes(), err
}

func decodeInput(text []byte) (in engineInput, err error) {
	err = gob.NewDecoder(bytes.NewReader(text)).Decode(&in)
	return in, err
}
