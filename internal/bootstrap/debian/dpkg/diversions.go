package dpkg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Diversion is one entry of dpkg's diversions database: other packages than
// By (":" for the administrator) have their From placed at To.
type Diversion struct{ From, To, By string }

// Diversions reads the diversions of the tree at root; no file means none.
func Diversions(root string) ([]Diversion, error) {
	data, err := os.ReadFile(filepath.Join(root, databaseDir, "diversions"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return parseDiversions(string(data))
}

// parseDiversions reads dpkg's diversions database: three lines an entry.
func parseDiversions(text string) ([]Diversion, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if text == "" {
		return nil, nil
	}
	if len(lines)%3 != 0 {
		return nil, fmt.Errorf("cannot read the diversions of dpkg: %d lines are not a multiple of three", len(lines))
	}
	var all []Diversion
	for i := 0; i < len(lines); i += 3 {
		all = append(all, Diversion{lines[i], lines[i+1], lines[i+2]})
	}
	return all, nil
}

// divert adds a diversion to the database of the tree.
func (db *Database) divert(d Diversion) error {
	return appendFile(db.path("diversions"), d.From+"\n"+d.To+"\n"+d.By+"\n")
}
