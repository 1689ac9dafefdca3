package jsonpos

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestError(t *testing.T) {
	for _, tt := range []struct{ data, want string }{
		{"", "f:1:1: unexpected end of JSON input"},
		{"{\n  \"a\": }", "f:2:8: invalid character '}' looking for beginning of value"},
		{"{\n  \"a\": [1],\n}", "f:3:1: invalid character '}' looking for beginning of object key string: remove the comma before it"},
		{"{\"a\": [1,]}", "f:1:10: invalid character ']' looking for beginning of value: remove the comma before it"},
		{"[1]", "f:1:1: the file is a JSON array where a object belongs"},
		{"{\"a\":\n\"x\"}", "f:2:3: a is a JSON string where a list belongs"},
	} {
		var v struct {
			A []int `json:"a"`
		}
		err := json.Unmarshal([]byte(tt.data), &v)
		if got := Error("f", []byte(tt.data), err); got.Error() != tt.want {
			t.Errorf("%q: %v, want %s", tt.data, got, tt.want)
		}
	}
	cause := errors.New("x")
	if got := Error("f", nil, cause); !errors.Is(got, cause) || got.Error() != "cannot read f: x" {
		t.Errorf("got %v", got)
	}
}
