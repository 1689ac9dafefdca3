// Package jsonpos says where in a file a fault of its JSON is.
package jsonpos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Error turns an error of json.Unmarshal about data, the content of file, into
// one that begins with file:line:column; lines and columns (bytes) count from 1.
func Error(file string, data []byte, err error) error {
	var (
		offset int64
		syntax *json.SyntaxError
		wrong  *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
		if before := bytes.TrimRight(data[:max(offset-1, 0)], " \t\r\n"); bytes.HasSuffix(before, []byte(",")) && offset > 0 && bytes.IndexByte([]byte("]}"), data[offset-1]) >= 0 {
			err = fmt.Errorf("%w: remove the comma before it", err)
		}
	case errors.As(err, &wrong):
		offset = wrong.Offset
		err = fmt.Errorf("%s is a JSON %s where a %s belongs", orTop(wrong.Field), wrong.Value, jsonKind(wrong.Type.Kind().String()))
	default:
		return fmt.Errorf("cannot read %s: %w", file, err)
	}
	before := data[:min(max(offset, 0), int64(len(data)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	return fmt.Errorf("%s:%d:%d: %w", file, line, max(column, 1), err)
}

func orTop(field string) string {
	if field == "" {
		return "the file"
	}
	return field
}

func jsonKind(goKind string) string {
	switch goKind {
	case "map", "struct":
		return "object"
	case "slice", "array":
		return "list"
	}
	return goKind
}
