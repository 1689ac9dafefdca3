package secret

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestByName(t *testing.T) {
	for name, want := range map[string]bool{
		"DIB_DEV_USER_PASSWORD": true, "DIB_RHSM_PASSWORD": true, "REG_PASSWORD": true, "REG_ACTIVATION_KEY": true, "DIB_SAT_KEY": true,
		"admin_password": true, "ROOTPASSWD": true, "LUKS_PASSPHRASE": true, "VPN_PASSCODE": true, "GITHUB_TOKEN": true, "TOKENS": true,
		"AWS_SECRET_ACCESS_KEY": true, "AWS_ACCESS_KEY_ID": true, "DIB_CREDENTIALS": true, "SSH_PRIVATE_KEY_PEM": true, "APIKEY": true,
		"DB_PASS": true, "DB_PWD": true,
		"DIB_SECRET_x": true, "DIB_SECRET_PUBLIC_KEY": true, "DIB_SECRET_FILE": true,

		"DIB_SECRET_NAMES": false, "DIB_SECRETS_DIR": false,
		"PWD": false, "OLDPWD": false, "DIB_BYPASS": false, "PATH": false, "": false,
		"DIB_DEV_USER_PWDLESS_SUDO": false, "DIB_PASSWORDLESS": false,
		"DIB_DEV_USER_AUTHORIZED_KEYS": false, "DIB_ADD_APT_KEYS": false, "DIB_APT_KEYRING": false, "SIGNING_PUBLIC_KEY": false,
		"TOKEN_FILE": false, "AWS_SHARED_CREDENTIALS_FILE": false, "DIB_KEYLIME_AGENT_PORT": false, "TOKEN_URL": false,
	} {
		if got := (Rules{}).Secret(name, "value"); got != want {
			t.Errorf("%s: secret %v, want %v", name, got, want)
		}
	}
}

func TestDeclaredAndByValue(t *testing.T) {
	env := map[string]string{
		"DIB_SECRET_NAMES": "DIB_PIN, DIB_CODE\nOTHER", "DIB_PIN": "123456", "DIB_CODE": "x", "OTHER": "", "PLAIN": "plain",
		"http_proxy": "http://me:hunter2@proxy.example:3128/", "DIB_DISTRIBUTION_MIRROR": "http://deb.example/a:b@c",
		"DIB_A_TOKEN": "",
	}
	kept, leftOut := RulesOf(env).Strip(env)
	if want := []string{"DIB_CODE", "DIB_PIN", "http_proxy"}; !slices.Equal(leftOut, want) {
		t.Errorf("left out %v, want %v", leftOut, want)
	}
	if want := []string{"DIB_A_TOKEN", "DIB_DISTRIBUTION_MIRROR", "DIB_SECRET_NAMES", "OTHER", "PLAIN"}; !slices.Equal(slices.Sorted(maps.Keys(kept)), want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
	if got := LeftOutComment(leftOut); got != "# left out because they hold secrets: DIB_CODE DIB_PIN http_proxy" {
		t.Errorf("comment %q", got)
	}
	if got := LeftOutComment(nil); got != "" {
		t.Errorf("comment about nothing: %q", got)
	}
}

func TestMaskAssignments(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"+ export A_PASSWORD=hunter2", "+ export A_PASSWORD=" + Mark},
		{`+ A_TOKEN='it'\''s it' cmd x`, "+ A_TOKEN=" + Mark + " cmd x"},
		{`declare -x A_SECRET="a \" b" c`, "declare -x A_SECRET=" + Mark + " c"},
		{"+ NAME=value --db-password=x", "+ NAME=value --db-password=" + Mark},
		{"encrypt.key-secret=sec0,compat=1.1", "encrypt.key-secret=" + Mark},
		{"clone https://me:tok@host/x and https://host/y", "clone https://me:" + Mark + "@host/x and https://host/y"},
		{"nothing to hide here", "nothing to hide here"},
		{"TOKEN_FILE=/run/token", "TOKEN_FILE=/run/token"},
		{"A_PASSWORD= next", "A_PASSWORD= next"},
	} {
		if got := MaskAssignments(tt.line); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.line, got, tt.want)
		}
	}
}

func TestAssigned(t *testing.T) {
	got := Assigned("--x=https://me:tok@host db-password=one,two B_TOKEN='three four' C=5")
	if want := []string{"tok", "one,two", "'three four'"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRedactor(t *testing.T) {
	r := NewRedactor(map[string]string{
		"A_PASSWORD": `it's "$x" 100%`, "B_TOKEN": "short", "PLAIN": "plainvalue",
		"DIB_SECRET_KEY": "-----BEGIN-----\nabcdefgh\nij\n", "http_proxy": "http://me:proxypass@host:1/",
		"DIB_SECRET_NAMES": "DIB_CODE", "DIB_CODE": "código-ü",
	})
	r.Add("from-a-file\r\n")
	for _, tt := range []struct{ name, line, want string }{
		{"as it is", `x it's "$x" 100% y`, "x " + Mark + " y"},
		{"single quotes of a trace", `+ echo 'it'\''s "$x" 100%'`, "+ echo '" + Mark + "'"},
		{"declare -p", `declare -x V="it's \"\$x\" 100%"`, `declare -x V="` + Mark + `"`},
		{"ANSI-C quotes", `$'it\'s "$x" 100%'`, "$'" + Mark + "'"},
		{"printf %q", `it\'s\ \"\$x\"\ 100%`, Mark},
		{"JSON", `{"v":"it's \"$x\" 100%"}`, `{"v":"` + Mark + `"}`},
		{"URL", "?q=it%27s+%22%24x%22+100%25&", "?q=" + Mark + "&"},
		{"line of many", "key: abcdefgh!", "key: " + Mark + "!"},
		{"short line of many", "ij", "ij"},
		{"too short", "short B_TOKEN", "short B_TOKEN"},
		{"not secret", "plainvalue", "plainvalue"},
		{"password of a URL, the rest stays", "via http://me:proxypass@host:1/", "via http://me:" + Mark + "@host:1/"},
		{"declared, not ASCII", "código-ü.", Mark + "."},
		{"content of a file", "from-a-file from-a-fil", Mark + " from-a-fil"},
		{"twice", "abcdefgh abcdefgh", Mark + " " + Mark},
		{"invalid UTF-8 stays", "\xffabcdefgh\xfe", "\xff" + Mark + "\xfe"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := r.String(tt.line); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := string(r.Bytes([]byte(tt.line))); got != tt.want {
				t.Errorf("bytes: got %q, want %q", got, tt.want)
			}
		})
	}
	if text := fmt.Sprintf("%v %+v %#v %s", r, r, r, r); strings.Contains(text, "abcdefgh") {
		t.Errorf("printing the redactor shows secrets: %s", text)
	}
	var none *Redactor
	if none.String("abcdefgh") != "abcdefgh" {
		t.Error("nil redacts")
	}
}

func TestOverlappingSecrets(t *testing.T) {
	r := NewRedactor(nil)
	r.Add("abcdef", "defghi", "abcdefgh", "xyzxyz")
	for line, want := range map[string]string{
		"_abcdefghi_": "_" + Mark + "_", "abcdefabcdef": Mark, "xyzxyzxyz": Mark, "abcdexyzxyz": "abcde" + Mark, "abcde": "abcde", "": "",
	} {
		if got := r.String(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

func TestLearningWhileUsed(t *testing.T) {
	r := NewRedactor(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			r.Add(fmt.Sprintf("secret-%d", i))
		}
	}()
	for range 100 {
		_ = r.String("secret-1 secret-99")
	}
	<-done
	if got := r.String("secret-99"); strings.Contains(got, "secret") {
		t.Errorf("got %q", got)
	}
}

func TestArgumentsAndEnv(t *testing.T) {
	env := map[string]string{"A_TOKEN": "tok-tok-tok", "DIB_NOTE": "uses tok-tok-tok", "B": "b"}
	r := NewRedactor(env)
	got := r.Arguments([]string{"-o", "x", "--mkfs-options", "tok-tok-tok", "--qemu-img-options", "encrypt.key-secret=s1"})
	if want := "-o x --mkfs-options " + Mark + " --qemu-img-options encrypt.key-secret=" + Mark; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	kept, leftOut := r.Env(env)
	if !slices.Equal(leftOut, []string{"A_TOKEN"}) || kept["DIB_NOTE"] != "uses "+Mark || kept["B"] != "b" || len(kept) != 2 {
		t.Errorf("kept %v, left out %v", kept, leftOut)
	}
}

func FuzzRedactor(f *testing.F) {
	f.Add("secret1", "other-secret", "text with secret1 and other-secret1")
	f.Add("aaaaaa", "aaaaaaa", "aaaaaaaaaaaaa")
	f.Add("it's it", "\"\\$`\n\xff\xff\xff\xff\xff\xff", "'it'\\''s it'")
	f.Fuzz(func(t *testing.T, one, two, text string) {
		r := NewRedactor(nil)
		r.Add(one, two)
		clean := r.String(text)
		for _, secret := range []string{one, two} {
			if len(secret) < MinLength || strings.ContainsAny(secret, "\r\n") || strings.Contains(secret, "*") {
				continue
			}
			// The marks cannot make up a secret that has no star in it.
			if strings.Contains(clean, secret) {
				t.Errorf("%q is left in %q, made of %q", secret, clean, text)
			}
		}
		_ = MaskAssignments(text)
	})
}

func BenchmarkRedactor(b *testing.B) {
	env := map[string]string{}
	for i := range 20 {
		env[fmt.Sprintf("V%d_TOKEN", i)] = fmt.Sprintf("%d-some-secret-value", i)
	}
	r := NewRedactor(env)
	line := []byte(strings.Repeat("Unpacking libsomething:amd64 (1.2.3-4) ... ", 3))
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		r.Bytes(line)
	}
}
