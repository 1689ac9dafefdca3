package archive

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// archiveKeys are the public keys of the Debian archive, as the package
// debian-archive-keyring ships them; the fingerprints are pinned by a test.
//
//go:embed keys/*.gpg
var archiveKeys embed.FS

// A SignatureError is a signed file that no trusted key vouches for.
type SignatureError struct {
	URL    string
	Reason error
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("cannot trust %s: %v; if the archive is not Debian's, name its keyring in DIB_APT_KEYRING", e.URL, e.Reason)
}

func (e *SignatureError) Unwrap() error { return e.Reason }

// LoadKeyring reads a keyring, binary or armoured; an empty name means the
// built-in keys of the Debian archive.
func LoadKeyring(name string) (openpgp.EntityList, error) {
	if name != "" {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read the keyring: %w", err)
		}
		keys, err := parseKeyring(data)
		if err != nil {
			return nil, fmt.Errorf("cannot read the keyring %s: %w", name, err)
		}
		return keys, nil
	}
	var all openpgp.EntityList
	files, err := archiveKeys.ReadDir("keys")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		data, err := archiveKeys.ReadFile("keys/" + f.Name())
		if err != nil {
			return nil, err
		}
		keys, err := parseKeyring(data)
		if err != nil {
			return nil, fmt.Errorf("internal error: built-in key %s: %w", f.Name(), err)
		}
		all = append(all, keys...)
	}
	return all, nil
}

func parseKeyring(data []byte) (openpgp.EntityList, error) {
	var keys openpgp.EntityList
	var err error
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN PGP")) {
		keys, err = openpgp.ReadArmoredKeyRing(bytes.NewReader(data))
	} else {
		keys, err = openpgp.ReadKeyRing(bytes.NewReader(data))
	}
	if err == nil && len(keys) == 0 {
		err = errors.New("it holds no key")
	}
	return keys, err
}

// verifyInRelease checks a clear-signed file and returns the text that was
// signed: nothing before, after or around it. One good signature of any key of
// the ring is enough; archives sign with old and new keys at a time.
func verifyInRelease(data []byte, keys openpgp.EntityList, now time.Time) ([]byte, error) {
	block, rest := clearsign.Decode(data)
	if block == nil {
		return nil, errors.New("it is not a clear-signed file")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("text follows the signature")
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	packets := packet.NewOpaqueReader(block.ArmoredSignature.Body)
	var reasons []string
	for {
		raw, err := packets.Next()
		if err != nil {
			break // the end, or damage behind which nothing can be read
		}
		var one bytes.Buffer
		if err := raw.Serialize(&one); err != nil {
			return nil, err
		}
		_, err = openpgp.CheckDetachedSignature(keys, bytes.NewReader(block.Bytes), &one, config)
		if err == nil {
			return block.Plaintext, nil
		}
		reasons = append(reasons, err.Error()+signer(raw))
	}
	if len(reasons) == 0 {
		return nil, errors.New("it holds no signature")
	}
	return nil, fmt.Errorf("no good signature of a trusted key (%s)", strings.Join(reasons, "; "))
}

// signer names the key that a signature claims to be of, as " (key …)".
func signer(raw *packet.OpaquePacket) string {
	p, err := raw.Parse()
	if err != nil {
		return ""
	}
	sig, ok := p.(*packet.Signature)
	if !ok || sig.IssuerKeyId == nil {
		return ""
	}
	return fmt.Sprintf(" (key %016X)", *sig.IssuerKeyId)
}
