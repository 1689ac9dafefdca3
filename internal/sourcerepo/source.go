package sourcerepo

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// Source is an entry after the variables of the build were applied.
type Source struct {
	Line
	// Skip says why nothing is to be fetched; empty when something is. Only
	// Line counts then.
	Skip string
	// RefDefault is set when nobody chose Ref. Of a git repository without that
	// branch its main branch is meant.
	RefDefault bool
	Checksum   string // of an archive or file, as ALGORITHM:HEX; empty for any
	Warnings   []string
}

// RefAll, as the Ref of a git source, stands for every branch and tag; of an
// archive for what is in its top-level directories.
const RefAll = "*"

// Resolve applies the environment to an entry:
//
//   - DIB_INSTALLTYPE_NAME, else the install type of the element that owns the
//     file, DIB_INSTALLTYPE_ELEMENT, else DIB_DEFAULT_INSTALLTYPE, says whether
//     sources are wanted at all. element may be empty when it is not known;
//   - DIB_REPOTYPE_NAME, DIB_REPOLOCATION_NAME and DIB_REPOREF_NAME replace the
//     fields of the line, and DIB_REPOCHECKSUM_NAME adds a checksum, which may
//     also be written at the end of the location as #sha256=HEX;
//   - DIB_GITREPOBASE replaces the server of git locations that were not replaced.
//
// The error is a *LineError.
func (l Line) Resolve(element string, lookup Lookup) (Source, error) {
	get := func(name string) string {
		value, _ := lookup(name)
		return value
	}
	s := Source{Line: l}
	if s.Skip = l.skip(element, get); s.Skip != "" {
		return s, nil
	}
	fail := func(err error) (Source, error) { return Source{}, &LineError{l.File, l.Number, err} }
	n := VariablePart(l.Name)
	if t := get("DIB_REPOTYPE_" + n); t != "" {
		s.Type = Type(t)
		if err := checkType(s.Type); err != nil {
			return fail(fmt.Errorf("DIB_REPOTYPE_%s: %w", n, err))
		}
	}
	if s.Type == Package {
		s.Skip = "packages come with package-installs"
		return s, nil
	}
	if location := get("DIB_REPOLOCATION_" + n); location != "" {
		s.Location = location
	} else if base := get("DIB_GITREPOBASE"); base != "" && s.Type == Git {
		s.Location = rebase(s.Location, base)
	}
	if ref := get("DIB_REPOREF_" + n); ref != "" {
		s.Ref = ref
	}
	switch {
	case s.Dest == "":
		return fail(fmt.Errorf("%s needs a destination, an absolute path in the image", s.Name))
	case s.Location == "":
		return fail(fmt.Errorf("%s needs a location, here or in DIB_REPOLOCATION_%s", s.Name, n))
	case strings.ContainsAny(s.Location+s.Ref, " \t\n"):
		return fail(fmt.Errorf("the location %q and the ref %q must not contain blanks", s.Location, s.Ref))
	case strings.HasPrefix(s.Location, "-") || strings.HasPrefix(s.Ref, "-"):
		return fail(fmt.Errorf("neither the location %q nor the ref %q may begin with a hyphen", s.Location, s.Ref))
	case s.Dest == "/" && s.Type != Tar:
		return fail(fmt.Errorf("the destination of %s must be a path below /", s.Name))
	}
	s.defaultRef()
	if err := s.readChecksum(get("DIB_REPOCHECKSUM_" + n)); err != nil {
		return fail(err)
	}
	return s, nil
}

// skip says why an entry is not wanted.
func (l Line) skip(element string, get func(string) string) string {
	variable := "DIB_INSTALLTYPE_" + VariablePart(l.Name)
	if t := get(variable); t != "" {
		if t == "source" {
			return ""
		}
		return fmt.Sprintf("its install type is %q (%s), not source", t, variable)
	}
	variable = "DIB_INSTALLTYPE_" + VariablePart(element)
	t := get(variable)
	if t == "" || element == "" {
		variable = "DIB_DEFAULT_INSTALLTYPE"
		t = get(variable)
	}
	// An element of type repo is installed from its repositories, too.
	if t == "" || t == "source" || t == "repo" {
		return ""
	}
	return fmt.Sprintf("the install type is %q (%s), not source", t, variable)
}

func (s *Source) defaultRef() {
	if s.Ref != "" {
		return
	}
	s.RefDefault = true
	switch s.Type {
	case Git:
		s.Ref = "master"
	case Tar:
		s.Ref = RefAll
		s.Warnings = append(s.Warnings, fmt.Sprintf(
			"%s: %s: without a ref, an archive stands for what is in its top-level directories; that default is deprecated: write \"*\" for it, or \".\" for the whole archive", s.At(), s.Name))
	}
}

// serverPart is what DIB_GITREPOBASE replaces.
var serverPart = regexp.MustCompile(`^[^/:]+://[^/]+/(~[^/]+(/|$))?`)

func rebase(location, base string) string {
	server := serverPart.FindString(location)
	if server == "" {
		return location
	}
	if strings.HasSuffix(server, "/") && strings.Contains(server, "/~") && !strings.HasSuffix(base, "/") {
		server = strings.TrimSuffix(server, "/") // the path keeps its slash
	}
	return base + location[len(server):]
}

// digests are the checksums that are understood, with their sizes in bytes.
var digests = map[string]int{"sha256": sha256.Size, "sha512": sha512.Size}

// readChecksum takes the checksum of a variable, or that of the location.
func (s *Source) readChecksum(variable string) error {
	if s.Type == Git {
		if variable != "" {
			return fmt.Errorf("%s: DIB_REPOCHECKSUM_%s is for archives and files; of a git repository give the commit as the ref", s.Name, VariablePart(s.Name))
		}
		return nil
	}
	text := variable
	if text == "" {
		_, fragment, _ := strings.Cut(s.Location, "#")
		algorithm, digits, ok := strings.Cut(fragment, "=")
		if _, known := digests[algorithm]; !ok || !known {
			return nil
		}
		text = algorithm + ":" + digits
	}
	algorithm, digits, _ := strings.Cut(text, ":")
	size, ok := digests[algorithm]
	if !ok {
		return fmt.Errorf("checksum %q of %s: the algorithm must be sha256 or sha512, as in sha256:HEX", text, s.Name)
	}
	if sum, err := hex.DecodeString(digits); err != nil || len(sum) != size {
		return fmt.Errorf("checksum %q of %s: not %d hexadecimal digits", text, s.Name, 2*size)
	}
	s.Checksum = algorithm + ":" + strings.ToLower(digits)
	return nil
}

// Address is the location without a checksum, for a download.
func (s Source) Address() string {
	address, fragment, _ := strings.Cut(s.Location, "#")
	if algorithm, _, ok := strings.Cut(fragment, "="); ok && digests[algorithm] > 0 && s.Type != Git {
		return address
	}
	return s.Location
}

// Public is the location without a password, for what others may read.
func (s Source) Public() string {
	u, err := url.Parse(s.Location)
	if err != nil || u.User == nil {
		return s.Location
	}
	if _, secret := u.User.Password(); !secret {
		return s.Location
	}
	u.User = url.User(u.User.Username())
	return u.String()
}

// CacheName is the name below source-repositories in the cache, which two
// builds share if and only if they mean the same.
func (s Source) CacheName() string { return VariablePart(s.Name) + "_" + s.OldCacheName() }

// OldCacheName is the name that early versions of DIB used in the cache.
func (s Source) OldCacheName() string {
	return fmt.Sprintf("%x", sha1.Sum([]byte(string(s.Type)+"_"+s.Location+"\n")))
}

// DuplicateError is a destination that two entries fill differently.
type DuplicateError struct{ First, Second Line }

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("%s: %s: the destination %s is also that of %s (%s), from elsewhere", e.Second.At(), e.Second.Name, e.Second.Dest, e.First.Name, e.First.At())
}

// Unique drops the entries that repeat an earlier one. The error joins a
// *DuplicateError for each entry with the destination of another.
func Unique(sources []Source) ([]Source, error) {
	var unique []Source
	var errs []error
	byDest := map[string]Source{}
	for _, s := range sources {
		if s.Skip != "" {
			unique = append(unique, s)
			continue
		}
		first, taken := byDest[s.Dest]
		switch {
		case !taken:
			byDest[s.Dest] = s
			unique = append(unique, s)
		case first.Type != s.Type || first.Location != s.Location || first.Ref != s.Ref || first.Checksum != s.Checksum:
			errs = append(errs, &DuplicateError{first.Line, s.Line})
		}
	}
	return unique, errors.Join(errs...)
}

// IsFile reports whether a file at the top of the hooks tree, or of an element,
// holds entries.
func IsFile(name string) bool {
	return strings.HasPrefix(path.Base(name), "source-repository-") && !strings.HasSuffix(name, "~")
}
