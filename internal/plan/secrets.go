package plan

import (
	"path"

	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/secret"
)

// splitSecrets takes the secret variables out of an environment.
func splitSecrets(env Env) (open, secrets Env) {
	kept, leftOut := secret.RulesOf(env).Strip(env)
	if leftOut != nil {
		secrets = Env{}
	}
	for _, name := range leftOut {
		secrets[name] = env[name]
	}
	return kept, secrets
}

// secretNames lists the secrets of a recipe: variables, then files.
func secretNames(rec recipe.Recipe) []string {
	_, names := secret.RulesOf(rec.Env).Strip(rec.Env)
	for _, s := range rec.Secrets {
		names = append(names, path.Join("$"+secret.DirVariable, s.Name))
	}
	return names
}

// visibleArgs are the arguments of the command line for people to see.
func visibleArgs(rec recipe.Recipe) []string {
	args := make([]string, len(rec.Args))
	redactor := secret.NewRedactor(rec.Env)
	for i, arg := range rec.Args {
		args[i] = secret.MaskAssignments(redactor.String(arg))
	}
	return args
}
