package standin

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/sandbox/account"
)

func TestParseSudo(t *testing.T) {
	words := func(s ...string) []string { return s }
	for _, c := range []struct {
		args []string
		want request
		bad  string
	}{
		{args: words("ls", "-l"), want: request{Command: words("ls", "-l")}},
		{args: words("-E", "chroot", "/x", "-u"), want: request{PreserveAll: true, Command: words("chroot", "/x", "-u")}},
		{args: words("-nEHu", "ann", "id"), want: request{PreserveAll: true, SetHome: true, User: "ann", Command: words("id")}},
		{args: words("-uann", "-g", "#5", "--", "id"), want: request{User: "ann", Group: "#5", Command: words("id")}},
		{args: words("--user=ann", "--group", "bin", "--set-home", "id"), want: request{User: "ann", Group: "bin", SetHome: true, Command: words("id")}},
		{args: words("A=1", "-E", "B=", "cmd", "C=3"), want: request{PreserveAll: true, Assign: words("A=1", "B="), Command: words("cmd", "C=3")}},
		{args: words("--", "A=1", "cmd"), want: request{Assign: words("A=1"), Command: words("cmd")}},
		{args: words("./a=b"), want: request{Command: words("./a=b")}},
		{args: words("--preserve-env=A,B", "cmd"), want: request{Preserve: words("A", "B"), Command: words("cmd")}},
		{args: words("--preserve-env", "cmd"), want: request{PreserveAll: true, Command: words("cmd")}},
		{args: words("-i"), want: request{Login: true}},
		{args: words("-s", "echo", "x"), want: request{Shell: true, Command: words("echo", "x")}},
		{args: words("-D", "/tmp", "-p", "prompt", "-S", "pwd"), want: request{Dir: "/tmp", Command: words("pwd")}},
		{args: words("-v"), want: request{NothingToDo: true}},
		{args: words("-k"), want: request{NothingToDo: true}},
		{args: words("-k", "id"), want: request{Command: words("id")}},
		{args: words("-b", "daemon"), want: request{Background: true, Command: words("daemon")}},
		{args: nil, bad: "no command given"},
		{args: words("-E"), bad: "no command given"},
		{args: words("-u"), bad: "option -u needs an argument"},
		{args: words("--user"), bad: "option --user needs an argument"},
		{args: words("-Z", "id"), bad: "unknown option -Z"},
		{args: words("--nonsense"), bad: "unknown option --nonsense"},
		{args: words("--login=x"), bad: "option --login takes no argument"},
		{args: words("-i", "-s"), bad: "options -i and -s exclude each other"},
		{args: words("-iE"), bad: "options -i and -E exclude each other"},
		{args: words("-R", "/x", "id"), bad: "option -R is not supported in a build"},
	} {
		got, err := parseSudo(c.args)
		if text := errText(err); text != c.bad {
			t.Errorf("%q: error %q, want %q", c.args, text, c.bad)
			continue
		}
		if len(got.Command) == 0 {
			got.Command = nil
		}
		if d := cmp.Diff(c.want, got); c.bad == "" && d != "" {
			t.Errorf("%q (-want +got):\n%s", c.args, d)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

var db = sudoers{
	passwd: []byte("ann:x:0:0:ann:/home/ann:/bin/zsh\nroot:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/var/www:/bin/false\n"),
	group:  []byte("ann:x:0:\nroot:x:0:\nwww:x:33:\nadm:x:4:www,syslog\n"),
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		r        request
		name     string
		uid, gid int
		groups   []int
		bad      string
	}{
		{request{}, "root", 0, 0, []int{0}, ""},
		{request{User: "ann"}, "ann", 0, 0, []int{0}, ""},
		{request{User: "www"}, "www", 33, 33, []int{33, 4}, ""},
		{request{User: "#33"}, "www", 33, 33, []int{33, 4}, ""},
		{request{User: "#77"}, "#77", 77, 77, []int{77}, ""},
		{request{User: "www", Group: "adm"}, "www", 33, 4, []int{33, 4}, ""},
		{request{Group: "#9"}, "root", 0, 9, []int{0}, ""},
		{request{User: "33"}, "", 0, 0, nil, "unknown user 33"},
		{request{User: "bob"}, "", 0, 0, nil, "unknown user bob"},
		{request{Group: "staff"}, "", 0, 0, nil, "unknown group staff"},
	} {
		got, err := c.r.resolve(db)
		if text := errText(err); text != c.bad {
			t.Errorf("%+v: error %q, want %q", c.r, text, c.bad)
			continue
		}
		if c.bad != "" {
			continue
		}
		if u := got.user; u.Name != c.name || u.UID != c.uid || u.GID != c.gid || !cmp.Equal(got.groups, c.groups) {
			t.Errorf("%+v: %+v", c.r, got)
		}
	}
	if id, err := (request{}).resolve(sudoers{}); err != nil || id.user.Name != "root" || id.user.UID != 0 {
		t.Errorf("root without a passwd file: %+v, %v", id, err)
	}
}

func TestEnvironment(t *testing.T) {
	caller := []string{
		"PATH=/.dib/bin:/usr/bin:/bin", "HOME=/home/ann", "USER=ann", "TERM=xterm", "LC_ALL=C", "DIB_RELEASE=trixie",
		"LD_PRELOAD=/x.so", "PYTHONPATH=/p", "BASH_FUNC_die%%=() { :; }", "PS4=+", "f=() { :; }", "SUDO_USER=old",
	}
	common := "MAIL=/var/mail/root PATH=/.dib/bin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin SHELL=/bin/bash SUDO_COMMAND=cmd SUDO_GID=0 SUDO_UID=0 SUDO_USER=ann"
	for _, c := range []struct {
		name string
		r    request
		want string
	}{
		{"reset", request{}, common + " HOME=/root LC_ALL=C LOGNAME=root TERM=xterm USER=root"},
		{"-E", request{PreserveAll: true}, common + " DIB_RELEASE=trixie HOME=/home/ann LC_ALL=C LOGNAME=root TERM=xterm USER=root"},
		{"-E -H", request{PreserveAll: true, SetHome: true}, common + " DIB_RELEASE=trixie HOME=/root LC_ALL=C LOGNAME=root TERM=xterm USER=root"},
		{"list", request{Preserve: []string{"DIB_RELEASE", "PYTHONPATH"}}, common + " DIB_RELEASE=trixie PYTHONPATH=/p HOME=/root LC_ALL=C LOGNAME=root TERM=xterm USER=root"},
		{"assigned", request{Assign: []string{"LD_PRELOAD=/y.so", "HOME=/h"}}, common + " HOME=/h LC_ALL=C LD_PRELOAD=/y.so LOGNAME=root TERM=xterm USER=root"},
	} {
		c.r.Command = []string{"cmd"}
		id := identity{user: account.User{Name: "root", Home: "/root"}}
		got := c.r.environment(caller, id, "/bin/bash")
		want := map[string]bool{}
		for _, w := range strings.Fields(c.want) {
			want[w] = true
		}
		have := map[string]bool{}
		for _, g := range got {
			have[g] = true
		}
		if d := cmp.Diff(want, have); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func TestArgv(t *testing.T) {
	for _, c := range []struct {
		r    request
		want []string
	}{
		{request{Command: []string{"a", "b c"}}, []string{"a", "b c"}},
		{request{Shell: true}, []string{"/bin/zsh"}},
		{request{Login: true}, []string{"-zsh"}},
		{request{Login: true, Command: []string{"echo", "a b", "$HOME", "x;y"}}, []string{"-zsh", "-c", `echo a\ b $HOME x\;y`}},
	} {
		if d := cmp.Diff(c.want, c.r.argv("/bin/zsh")); d != "" {
			t.Errorf("%+v (-want +got):\n%s", c.r, d)
		}
	}
}

func FuzzParseSudo(f *testing.F) {
	f.Add("-E\x00-u\x00ann\x00A=1\x00cmd")
	f.Add("--preserve-env=A,B\x00--\x00cmd\x00-x")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\x00")
		r, err := parseSudo(args)
		if err != nil {
			return
		}
		if n := len(r.Command); n > len(args) || n > 0 && r.Command[n-1] != args[len(args)-1] {
			t.Errorf("%q: command %q is not the end of the arguments", args, r.Command)
		}
	})
}
