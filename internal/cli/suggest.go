package cli

import "fmt"

// didYouMean returns ` (did you mean "x"?)` for the candidate that is nearest to
// a misspelt word, or nothing when none is near.
func didYouMean(word string, candidates []string) string {
	best, nearest := 3, "" // three edits make a different word
	for _, c := range candidates {
		if d := distance(word, c); d < best && d < len(c) {
			best, nearest = d, c
		}
	}
	if nearest == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", nearest)
}

// distance is the number of single-byte insertions, deletions and
// replacements that turn a into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
