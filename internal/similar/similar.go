// Package similar finds the word that a misspelt one was probably meant to be.
package similar

import (
	"cmp"
	"slices"
	"strings"
)

// most bounds the suggestions for one misspelt word.
const most = 3

// Words returns up to three words of among that word was probably meant to
// be, the likeliest first: a third of its letters may differ, or it may be the
// beginning of a longer word.
func Words(word string, among []string) []string {
	type candidate struct {
		word string
		far  int
	}
	var found []candidate
	for _, other := range among {
		far := distance(strings.ToLower(word), strings.ToLower(other))
		switch {
		case far <= max(1, len(word)/3) && far < len(word):
			found = append(found, candidate{other, far})
		case len(word) >= 3 && strings.HasPrefix(other, word+"-"):
			found = append(found, candidate{other, len(word)})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.word, b.word))
	})
	var words []string
	for _, c := range found[:min(len(found), most)] {
		words = append(words, c.word)
	}
	return words
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b (optimal string alignment).
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
