package cli

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/secret"
)

// secretFileName is what a secret may be called: the name of a file in one
// directory, not a hidden one.
var secretFileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// assignSecrets reads the arguments of --secret.
func (r *reader) assignSecrets(rec *recipe.Recipe, host Host) {
	seen := map[string]bool{}
	list := strings.TrimSuffix(r.vars.value[varSecrets], "\x00")
	if list == "" {
		return
	}
	for _, arg := range strings.Split(list, "\x00") {
		name, file, ok := strings.Cut(arg, "=")
		switch {
		case !ok:
			// What was given may be the secret itself: it is not repeated.
			r.problem("cannot use an argument of --secret: want NAME=FILE, there is no \"=\" in it")
			continue
		case !secretFileName.MatchString(name):
			r.problem("cannot use secret %q: a name consists of letters, digits, \"_\", \".\" and \"-\" and begins with none of the last two", name)
			continue
		case file == "":
			r.problem("cannot use secret %q: no file given; want --secret %s=FILE", name, name)
			continue
		case seen[name]:
			r.problem("cannot use secret %q: it is given twice", name)
			continue
		case r.vars.value[secret.Prefix+name] != "":
			r.problem("cannot use secret %q: it is given by --secret and as the variable %s%s", name, secret.Prefix, name)
			continue
		}
		seen[name] = true
		if !filepath.IsAbs(file) {
			file = filepath.Join(host.Cwd, file)
		}
		rec.Secrets = append(rec.Secrets, recipe.Secret{Name: name, File: file})
	}
}
