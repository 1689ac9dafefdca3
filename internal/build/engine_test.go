package build

import (
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/plan"
)

// D49: the release that an element exports counts as that of the caller does.
func TestD49ReleaseOfElements(t *testing.T) {
	for _, tt := range []struct {
		name, caller, element string
		want                  bool
	}{
		{"of the caller", "trusty", "", true},
		{"of an element", "", "trusty", true},
		{"an element decides", "trusty", "noble", false},
		{"none", "", "", false},
	} {
		b := &builder{plan: &plan.Plan{}, env: plan.Env{"DIB_ROOT_FSTYPE": "ext4", "DIB_RELEASE": tt.caller}, release: tt.element}
		opts, err := b.mkfsOptions(1 << 30)
		if err != nil || strings.Contains(opts, "^metadata_csum") != tt.want {
			t.Errorf("%s: %q, %v", tt.name, opts, err)
		}
	}
}
