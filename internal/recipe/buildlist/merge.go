package buildlist

import (
	"slices"

	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/yamldoc"
)

// entry is one image of a file, or several that were merged.
type entry struct {
	source *finding.Collector
	image  string // the image it belongs to
	pairs  yamldoc.Pairs
}

// merge makes one entry of all that belong to the same image, where its first
// one stands. An entry without a name belongs to the image of the one before.
// Nothing of the given entries is modified.
func merge(entries []entry) []entry {
	var merged []entry
	image := defaultName
	for _, e := range entries {
		if name, ok := e.pairs.Get(keyName); ok {
			image = name.Val.Text
		}
		at := slices.IndexFunc(merged, func(m entry) bool { return m.image == image })
		if at < 0 {
			merged = append(merged, entry{source: e.source, image: image, pairs: slices.Clone(e.pairs)})
			continue
		}
		for _, p := range e.pairs {
			merged[at].pairs = merged[at].pairs.Set(combine(merged[at].pairs, p))
		}
	}
	return merged
}

// combine is a key of a later entry together with what there is of it: lists
// grow, mappings are updated, everything else is replaced.
func combine(pairs yamldoc.Pairs, p yamldoc.Pair) yamldoc.Pair {
	old, have := pairs.Get(p.Key)
	if !have || old.Val.Kind != p.Val.Kind {
		return p
	}
	switch p.Val.Kind {
	case yamldoc.List:
		p.Val.List = slices.Concat(old.Val.List, p.Val.List)
	case yamldoc.Map:
		all := slices.Clone(old.Val.Pairs)
		for _, one := range p.Val.Pairs {
			all = all.Set(one)
		}
		p.Val.Pairs = all
	}
	return p
}

// warnings are about combinations that do not do what they say.
func (e entry) warnings() finding.List {
	c := &finding.Collector{Source: e.source.Source, Text: e.source.Text}
	cleared, _ := e.pairs.Get(keyClear)
	env, _ := e.pairs.Get(keyEnv)
	if on, _ := cleared.Val.Bool(); on && len(env.Val.Pairs) > 0 {
		c.Warnf(cleared.Pos, "%q drops the variables of %q too", keyClear, keyEnv)
	}
	return c.Warnings
}
