// Package getopt splits a command line as GNU getopt_long does.
//
// Operands and options may be mixed, short options cluster, long options may be
// shortened to any unambiguous prefix, and messages read like those of the C
// library, so that callers who look at them find what they know. Optional
// arguments and single-dash long options are left out: nothing here needs them.
package getopt

import (
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/similar"
)

// Option is one option of a command.
type Option struct {
	Short byte   // 0 for none
	Long  string // without its dashes; empty for none
	Arg   bool   // takes an argument

	// Late marks an option that was added to a command line which people
	// already shorten: a prefix that also fits another option means that other
	// one, as it did before.
	Late bool
}

// Name is the option as a user would type it, the long form first.
func (o Option) Name() string {
	if o.Long != "" {
		return "--" + o.Long
	}
	return "-" + string(rune(o.Short))
}

// Match is one option found on a command line.
type Match struct {
	Option Option
	Value  string // empty for options without an argument
}

// Error lists everything wrong with a command line, one message for each
// mistake, in the order of the arguments and without the name of the command.
type Error struct {
	Messages []string
}

func (e *Error) Error() string { return strings.Join(e.Messages, "; ") }

// Parse finds the options in args and returns them with the operands, both in
// their original order. After "--" all arguments are operands; with posix
// (POSIXLY_CORRECT is set) so are all after the first operand. Mistakes do not
// stop the parser; they come back together as an *Error.
func Parse(options []Option, args []string, posix bool) ([]Match, []string, error) {
	p := parser{options: options, rest: args}
	for len(p.rest) > 0 {
		arg := p.next()
		switch {
		case arg == "--":
			p.operands = append(p.operands, p.rest...)
			p.rest = nil
		case strings.HasPrefix(arg, "--"):
			p.long(arg[2:])
		case len(arg) > 1 && arg[0] == '-':
			p.cluster(arg[1:])
		default:
			p.operands = append(p.operands, arg)
			if posix {
				p.operands = append(p.operands, p.rest...)
				p.rest = nil
			}
		}
	}
	if len(p.messages) > 0 {
		return nil, nil, &Error{Messages: p.messages}
	}
	return p.matches, p.operands, nil
}

type parser struct {
	options  []Option
	rest     []string // arguments not looked at yet
	matches  []Match
	operands []string
	messages []string
}

func (p *parser) next() string {
	arg := p.rest[0]
	p.rest = p.rest[1:]
	return arg
}

func (p *parser) fail(words ...string) {
	p.messages = append(p.messages, strings.Join(words, ""))
}

// long handles one argument that began with two dashes, which are cut off.
func (p *parser) long(arg string) {
	name, value, attached := strings.Cut(arg, "=")
	o, ok := p.resolve(name, arg)
	switch {
	case !ok:
	case !o.Arg && attached:
		p.fail("option '--", o.Long, "' doesn't allow an argument")
	case !o.Arg || attached:
		p.matches = append(p.matches, Match{o, value})
	case len(p.rest) == 0:
		p.fail("option '--", o.Long, "' requires an argument")
	default:
		p.matches = append(p.matches, Match{o, p.next()})
	}
}

// resolve finds the long option that a full or shortened name means; arg is
// the whole argument, for messages.
func (p *parser) resolve(name, arg string) (Option, bool) {
	var fits []Option
	for _, o := range p.options {
		if o.Long == "" || !strings.HasPrefix(o.Long, name) {
			continue
		}
		if o.Long == name {
			return o, true
		}
		fits = append(fits, o)
	}
	if early := slices.DeleteFunc(slices.Clone(fits), func(o Option) bool { return o.Late }); len(early) > 0 {
		fits = early
	}
	switch len(fits) {
	case 0:
		p.fail("unrecognized option '--", arg, "'", p.meant(arg))
	case 1:
		return fits[0], true
	default:
		var names strings.Builder
		for _, o := range fits {
			names.WriteString(" '--" + o.Long + "'")
		}
		p.fail("option '--", arg, "' is ambiguous; possibilities:", names.String())
	}
	return Option{}, false
}

// cluster handles one argument that began with a single dash, which is cut off.
func (p *parser) cluster(letters string) {
	for i := range len(letters) {
		c := letters[i]
		at := slices.IndexFunc(p.options, func(o Option) bool { return o.Short == c && c != 0 })
		switch {
		case at < 0:
			p.fail("invalid option -- '", letters[i:i+1], "'")
		case !p.options[at].Arg:
			p.matches = append(p.matches, Match{Option: p.options[at]})
		case i+1 < len(letters):
			p.matches = append(p.matches, Match{p.options[at], letters[i+1:]})
			return
		case len(p.rest) == 0:
			p.fail("option requires an argument -- '", letters[i:i+1], "'")
		default:
			p.matches = append(p.matches, Match{p.options[at], p.next()})
		}
	}
}

// meant suggests the option for a misspelt one.
func (p *parser) meant(arg string) string {
	var names []string
	for _, o := range p.options {
		if o.Long != "" {
			names = append(names, o.Long)
		}
	}
	if words := similar.Words(arg, names); len(words) > 0 {
		return " (did you mean '--" + words[0] + "'?)"
	}
	return ""
}
