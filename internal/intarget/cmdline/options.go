package cmdline

import (
	"fmt"
	"strings"
)

// Options maps the spelling of an option ("--phase", "-n") to where its value
// goes: a *string takes an argument, a *bool does not.
type Options map[string]any

// Parse reads options anywhere among args, as "--name value" or
// "--name=value", and returns the operands. After "--" all are operands. When
// keepUnknown is set, an option that is not in the table is an operand too.
func (o Options) Parse(args []string, keepUnknown bool) ([]string, error) {
	var operands []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(operands, args[i+1:]...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			operands = append(operands, arg)
			continue
		}
		name, value, attached := strings.Cut(arg, "=")
		switch target := o[name].(type) {
		case *bool:
			if attached {
				return nil, fmt.Errorf("option %s takes no value", name)
			}
			*target = true
		case *string:
			if !attached {
				i++
				if i == len(args) {
					return nil, fmt.Errorf("option %s needs a value", name)
				}
				value = args[i]
			}
			*target = value
		default:
			if !keepUnknown {
				return nil, fmt.Errorf("unknown option %q", arg)
			}
			operands = append(operands, arg)
		}
	}
	return operands, nil
}
