package account

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const passwd = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\nann:x:1000:1000:Ann,,,:/home/ann:/bin/zsh\nalias:x:1000:1000::/:/bin/sh\n+::::::\n"

func TestPasswd(t *testing.T) {
	for _, c := range []struct {
		name string
		user User
		want string
	}{
		{"local", User{Name: "ann", UID: 1000, Home: "/home/ann", Shell: "/bin/zsh"},
			"ann:x:0:0:ann:/home/ann:/bin/zsh\nroot:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n+::::::\n"},
		{"from a directory service", User{Name: "bob", UID: 70000, Home: "/home/bob"},
			"bob:x:0:0:bob:/home/bob:/bin/sh\n" + passwd},
	} {
		if d := cmp.Diff(c.want, string(Passwd([]byte(passwd), c.user))); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
	if d := cmp.Diff("a:x:0:0:a:/:/bin/sh\nlast:x:5:5::/:/s\n", string(Passwd([]byte("last:x:5:5::/:/s"), User{Name: "a", UID: 9, Home: "/"}))); d != "" {
		t.Errorf("missing newline at the end (-want +got):\n%s", d)
	}
}

func TestGroupfile(t *testing.T) {
	const group = "root:x:0:\nusers:x:100:ann\nann:x:1000:\n"
	for _, c := range []struct {
		user User
		want string
	}{
		{User{Name: "ann", Group: "ann", GID: 1000}, "ann:x:0:\nroot:x:0:\nusers:x:100:ann\n"},
		{User{Name: "ann", Group: "users", GID: 100}, "users:x:0:\nroot:x:0:\nann:x:1000:\n"},
		{User{Name: "bob", GID: 70000}, "bob:x:0:\n" + group},
	} {
		if d := cmp.Diff(c.want, string(Groupfile([]byte(group), c.user))); d != "" {
			t.Errorf("%+v (-want +got):\n%s", c.user, d)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		who, want string
		ok        bool
	}{
		{"ann", "ann", true}, {"#1000", "ann", true}, {"1000", "ann", true}, {"0", "root", true}, {"nobody", "", false}, {"#77", "", false},
	} {
		u, ok := Lookup([]byte(passwd), c.who)
		if u.Name != c.want || ok != c.ok {
			t.Errorf("Lookup(%q) = %q, %v; want %q, %v", c.who, u.Name, ok, c.want, c.ok)
		}
	}
}

func FuzzPasswd(f *testing.F) {
	f.Add([]byte(passwd), []byte("root:x:0:\n"))
	f.Fuzz(func(t *testing.T, p, g []byte) {
		u := User{Name: "ann", UID: 1000, GID: 1000, Home: "/home/ann"}
		if got, ok := Lookup(Passwd(p, u), "ann"); !ok || got.UID != 0 {
			t.Errorf("ann is %+v", got)
		}
		if gs := Groups(Groupfile(g, u)); len(gs) == 0 || gs[0].Name != "ann" || gs[0].GID != 0 {
			t.Errorf("groups %+v", gs)
		}
	})
}
