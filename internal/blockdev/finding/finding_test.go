package finding

import "testing"

func TestCollector(t *testing.T) {
	c := &Collector{Source: "x.yaml"}
	c.Warnf(Pos{}, "odd")
	if err := c.Errors.Err(); err != nil {
		t.Errorf("a warning alone is an error: %v", err)
	}
	c.Errorf(Pos{Line: 2, Col: 3}, "no %s", "disk")
	c.Errorf(Pos{}, "nothing")
	if got, want := c.Errors.Err().Error(), "x.yaml:2:3: no disk\nx.yaml: nothing"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if len(c.Warnings) != 1 || c.Warnings[0].String() != "x.yaml: odd" {
		t.Errorf("warnings %v", c.Warnings)
	}
}
