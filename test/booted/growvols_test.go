package booted

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dib-builder/dib/test/commandtest"
)

const growvols = "growvols/static/usr/local/sbin/growvols"

// device is one line of lsblk: kname, pkname, name, label, type, fstype, mountpoint.
func device(fields string) string {
	f := strings.Split(fields, "|")
	return fmt.Sprintf(`KNAME="%s" PKNAME="%s" NAME="%s" LABEL="%s" TYPE="%s" FSTYPE="%s" MOUNTPOINT="%s"`, f[0], f[1], f[2], f[3], f[4], f[5], f[6])
}

func devices(list ...string) string {
	var b strings.Builder
	for _, fields := range list {
		b.WriteString(device(fields) + "\n")
	}
	return b.String()
}

// plainDisk has three partitions, the last of which is the physical volume of
// group vg.
var plainDisk = []string{
	"sda||sda||disk||", "sda1|sda|sda1|MKFS_ESP|part|vfat|/boot/efi", "sda2|sda|sda2||part||", "sda3|sda|sda3||part|LVM2_member|",
	"sda4|sda|sda4|config-2|part|iso9660|", "sda5|sda|sda5||part||",
	"dm-0|sda3|vg-lv_root|img-rootfs|lvm|xfs|/", "dm-1|sda3|vg-lv_tmp|fs_tmp|lvm|xfs|/tmp", "dm-2|sda3|vg-lv_var|fs_var|lvm|xfs|/var",
	"dm-3|sda3|vg-lv_home|fs_home|lvm|xfs|/home", "dm-4|sda3|vg-lv_swap||lvm|swap|[SWAP]", "sr0||sr0||rom||",
}

// change replaces lines of a list that begin with the same two fields, and adds others.
func change(list []string, lines ...string) []string {
	changed := append([]string{}, list...)
	for _, line := range lines {
		prefix := strings.Join(strings.SplitN(line, "|", 3)[:2], "|") + "|"
		at := -1
		for i, old := range changed {
			if strings.HasPrefix(old, prefix) {
				at = i
			}
		}
		if at < 0 {
			changed = append(changed, line)
		} else {
			changed[at] = line
		}
	}
	return changed
}

const (
	plainVolumes = `  lv_root /dev/mapper/vg-lv_root -wi-ao----
  lv_tmp /dev/mapper/vg-lv_tmp -wi-ao----
  lv_var /dev/mapper/vg-lv_var -wi-ao----
  lv_home /dev/mapper/vg-lv_home -wi-ao----
  lv_swap /dev/mapper/vg-lv_swap -wi-ao----
`
	thinVolumes = `  lv_thinpool /dev/mapper/vg-lv_thinpool twi-aotz--
  lv_root /dev/mapper/vg-lv_root Vwi-aotz-- lv_thinpool
  lv_tmp /dev/mapper/vg-lv_tmp Vwi-aotz-- lv_thinpool
  lv_var /dev/mapper/vg-lv_var Vwi-aotz-- lv_thinpool
  lv_home /dev/mapper/vg-lv_home Vwi-aotz-- lv_thinpool
`
)

// storage is what the programs that look say.
type storage struct {
	devices       []string
	groups        string
	volumes       string
	verify        string // sgdisk -v
	free          string // sgdisk --first-aligned-in-largest ...
	parted        string
	sector, kname string
}

func plain() storage {
	return storage{devices: plainDisk, groups: "  vg\n", volumes: plainVolumes, verify: "No problems found.\n", free: "79267840\n488265727\n", sector: "512", kname: "sda"}
}

func (s storage) machine(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t, map[string]string{
		"sys/block/" + s.kname + "/queue/logical_block_size": s.sector + "\n",
		"say/lsblk": devices(s.devices...), "say/vgs": s.groups, "say/lvs": s.volumes, "say/verify": s.verify, "say/free": s.free, "say/parted": s.parted,
	})
	for _, name := range []string{"lsblk", "vgs", "lvs"} {
		m.fake(name, say("say/"+name))
	}
	m.fake("sgdisk", "case $* in -v*) "+say("say/verify")+" exit 2 ;; *--first-aligned*) "+say("say/free")+" ;; esac")
	m.fake("parted", "case $* in *' print free') "+say("say/parted")+" ;; esac")
	return m
}

// sizes lists how much each volume or pool grows by, as growvols says it.
func sizes(t *testing.T, s storage, args ...string) string {
	t.Helper()
	m := s.machine(t)
	m.mustRun(growvols, append([]string{"--yes"}, args...)...)
	var list []string
	for _, call := range lines(m.called()) {
		words := strings.Fields(call)
		if words[0] != "lvextend" || words[1] == "--poolmetadatasize" {
			continue
		}
		rest := strings.Join(words[1:], " ")
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, "--size "), "-L")
		size, where, _ := strings.Cut(rest, "B ")
		where, _, _ = strings.Cut(where, " ")
		list = append(list, strings.TrimPrefix(where, "/dev/mapper/")+size)
	}
	return strings.Join(list, " ")
}

func TestGrowvolsSizes(t *testing.T) {
	thin := plain()
	thin.volumes = thinVolumes
	for _, c := range []struct {
		name string
		s    storage
		args string
		want string
	}{
		{"all to the root", plain(), "", "vg-lv_root+209396432896"},
		{"shares", plain(), "/home=20% fs_var=40%", "vg-lv_home+41871736832 vg-lv_var+83751862272 vg-lv_root+83756056576"},
		{"thin pool", thin, "/home=20% fs_var=40%", "vg-lv_thinpool+207244754944 vg-lv_home+41439723520 vg-lv_var+82892029952 vg-lv_root+82896224256"},
		{"M71 a volume named twice, once implied", plain(), "/=50% /home=20%", "vg-lv_root+167516307456 vg-lv_home+41871736832"},
		{"M71 a volume named in two ways", plain(), "/var=10% fs_var=10% /=0%", "vg-lv_var+41867542528 vg-lv_root+167520501760"},
		{"units", plain(), "/home=8GiB /tmp=8192MiB /var=9GB fs_tmp=1000MB",
			"vg-lv_home+8581545984 vg-lv_tmp+9579790336 vg-lv_var+8988393472 vg-lv_root+182221537280"},
		{"more than there is", plain(), "/home=90% /tmp=90% /var=90%", "vg-lv_home+188454273024 vg-lv_tmp+20933771264"},
		{"leading zeros", plain(), "/home=008GiB /=100%", "vg-lv_home+8581545984 vg-lv_root+200806498304"},
		{"too little for one of them", plain(), "/home=8MiB", "vg-lv_root+209388044288"},
		{"M72 the root cannot grow and was not asked for", storage{devices: change(plainDisk, "dm-0|sda3|vg-lv_root|img-rootfs|lvm|zfs|/"), groups: "vg\n", volumes: plainVolumes,
			free: plain().free, sector: "512", kname: "sda"}, "/home=20%", "vg-lv_home+41871736832"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sizes(t, c.s, strings.Fields(c.args)...); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
	t.Run("M72 the last sector counts", func(t *testing.T) {
		s := plain()
		// 300 extents and the two that a volume gets less.
		s.free = fmt.Sprintf("2048\n%d\n", 2048+302*8192-1)
		if got, want := sizes(t, s), fmt.Sprintf("vg-lv_root+%d", 300<<22); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// TestGrowvolsCommands holds all that is run, in order.
func TestGrowvolsCommands(t *testing.T) {
	thin := plain()
	thin.volumes = thinVolumes
	mpath := plain()
	mpath.kname = "dm-0"
	mpath.devices = []string{
		"sda||sda||disk|mpath_member|", "dm-0|sda|mpatha||mpath||", "dm-1|dm-0|mpatha1||part|vfat|/boot/efi", "dm-2|dm-0|mpatha2||part|LVM2_member|",
		"dm-3|dm-2|vg-lv_root|img-rootfs|lvm|xfs|/", "sdb||sdb||disk|mpath_member|", "dm-0|sdb|mpatha||mpath||", "dm-1|dm-0|mpatha1||part|vfat|/boot/efi",
		"dm-2|dm-0|mpatha2||part|LVM2_member|", "dm-3|dm-2|vg-lv_root|img-rootfs|lvm|xfs|/",
	}
	mpathParts := mpath
	mpathParts.devices = []string{"sda||sda||disk||", "dm-0|sda|mpatha||mpath||", "dm-1|dm-0|mpatha-part1||part||", "dm-2|dm-0|mpatha-part11||part||",
		"dm-3|dm-2|vg-lv_root||lvm|xfs|/"}
	gap := plain()
	gap.kname = "nvme0n1"
	gap.devices = []string{"nvme0n1||nvme0n1||disk||", "nvme0n1p1|nvme0n1|nvme0n1p1||part||", "nvme0n1p7|nvme0n1|nvme0n1p7||part||",
		"dm-0|nvme0n1p7|vg-lv_root||lvm|ext4|/", "dm-1|nvme0n1p7|vg-lv_home|my\\x20home|lvm|btrfs|/home"}
	msdos := plain()
	msdos.verify = "***\nFound invalid GPT and valid MBR; converting MBR to GPT format\nin memory.\n***\n"
	msdos.devices = []string{"sda||sda||disk||", "sda1|sda|sda1||part||", "sda2|sda|sda2||part||", "dm-0|sda2|vg-lv_root||lvm|xfs|/"}
	msdos.parted = "BYT;\n/dev/sda:5000000000s:scsi:512:512:msdos:ATA X:;\n1:63s:2047s:1985s:free;\n1:2048s:4095s:2048s:ext4::boot;\n" +
		"2:4096s:79267839s:79263744s:::lvm;\n1:79267841s:4999999999s:4920732159s:free;\n"
	moved := plain()
	moved.verify = "Problem: The secondary header's self-pointer indicates that it doesn't reside\nat the end of the disk. If you've added a disk to a RAID array, ...\n"
	for name, c := range map[string]struct {
		s    storage
		args string
	}{
		"plain":       {plain(), "--yes --verbose /home=20%"},
		"thin":        {thin, "--yes /home=20%"},
		"multipath":   {mpath, "-y"},
		"M72-parts":   {mpathParts, "-y"},
		"M72-gap":     {gap, "--yes --device nvme0n1 --group vg --debug my\x00home=1GiB"},
		"M72-msdos":   {msdos, "--yes"},
		"moved":       {moved, "--yes --device=/dev/sda"},
		"moved-noop":  {moved, "--noop"},
		"no-terminal": {plain(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := c.s.machine(t)
			args := strings.Fields(c.args)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "\x00", " ")
			}
			out := m.mustRun(growvols, args...)
			commandtest.Golden(t, "growvols-"+name+".golden", "$ growvols "+strings.Join(args, " ")+"\n"+out+"\nCommands:\n"+m.called())
		})
	}
}

func TestGrowvolsFailures(t *testing.T) {
	with := func(edit func(*storage)) storage {
		s := plain()
		edit(&s)
		return s
	}
	two := with(func(s *storage) { s.groups = " vg\n other\n" })
	thin := with(func(s *storage) {
		s.volumes = thinVolumes + "  lv_x /dev/mapper/vg-lv_x Vwi-a-tz-- other_pool\n"
	})
	small := with(func(s *storage) { s.free = "2048\n2099198\n" })
	enough := with(func(s *storage) { s.free = "2048\n2099199\n" })
	for _, c := range []struct {
		name   string
		s      storage
		args   string
		status int
		out    string
	}{
		{"no such option", plain(), "--fast", 2, "unknown option --fast"},
		{"no value", plain(), "--group", 2, "option --group needs a value"},
		{"no amount", plain(), "/home", 2, `"/home=/home" is not VOLUME=AMOUNT`},
		{"bad amount", plain(), "/home=20TB", 2, `"/home=20TB" is not VOLUME=AMOUNT`},
		{"help", plain(), "-h", 0, "Usage: growvols"},
		{"less than 1 GiB", small, "--yes", 0, "there is less than 1 GiB"},
		{"less than 1 GiB, and that is a failure", small, "--yes --exit-on-no-grow", 2, "there is less than 1 GiB"},
		{"exactly 1 GiB", enough, "--noop --exit-on-no-grow", 0, "lvextend --size +1065353216B"},
		{"full", with(func(s *storage) { s.free = "0\n0\n" }), "--exit-on-no-grow", 2, "there is less than 1 GiB"},
		{"no such disk", plain(), "--device sdx", 1, "there is no disk sdx"},
		{"no disk at all", plain(), "--device sr0", 1, "sr0 is a device of type rom"},
		{"a partition", plain(), "--device sda1", 1, "sda1 is a device of type part"},
		{"two groups", two, "", 1, "there are 2 volume groups (vg other)"},
		{"one of two groups", two, "--group vg --noop", 0, "vgextend vg /dev/sda6"},
		{"no group", with(func(s *storage) { s.groups = "" }), "", 1, "there are 0 volume groups"},
		{"no such group", plain(), "--group x", 1, "there is no volume group x, only: vg"},
		{"volume unknown", plain(), "/srv=1GiB", 1, "there is no mount point and no label /srv"},
		{"no volume", plain(), "/boot/efi=1GiB", 1, "/boot/efi is on a device of type part"},
		{"swap", plain(), "[SWAP]=1GiB", 1, `has a file system of type "swap"`},
		{"another group", with(func(s *storage) {
			s.devices = change(plainDisk, "dm-9|sdb1|other-x|x|lvm|xfs|/x")
		}), "/x=1GiB", 1, "volume other-x (/x) is not in the volume group vg"},
		{"root on a partition", with(func(s *storage) {
			s.devices = change(plainDisk, "dm-0|sda3|vg-lv_root|img-rootfs|lvm|xfs|", "sda5|sda|sda5||part|ext4|/")
		}), "", 1, "/ is on a device of type part"},
		{"two pools", thin, "", 1, "thin volume lv_x is in pool other_pool, not in lv_thinpool"},
		{"outside of the pool", with(func(s *storage) {
			s.volumes = thinVolumes + "  lv_swap /dev/mapper/vg-lv_swap -wi-ao----\n"
			s.devices = change(plainDisk, "dm-4|sda3|vg-lv_swap|x|lvm|xfs|/x")
		}), "/x=1GiB", 1, "is not in the thin pool lv_thinpool"},
		{"pool too small", with(func(s *storage) { s.volumes, s.free = thinVolumes, "2048\n4196351\n" }), "", 1, "not enough space for the thin pool"},
		{"MS-DOS table full", with(func(s *storage) {
			s.verify = "converting MBR to GPT format\n"
			s.parted = "1:79267840s:488265727s:408997888s:free;\n"
		}), "", 1, "has no place for another partition"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := c.s.machine(t)
			out, status := m.run(growvols, strings.Fields(c.args)...)
			if status != c.status || !strings.Contains(out, c.out) {
				t.Errorf("exit status %d, want %d, with %q:\n%s", status, c.status, c.out, out)
			}
			if calls := m.called(); strings.Contains(calls, "--new") || strings.Contains(calls, "mkpart") || strings.Contains(calls, "pvcreate") {
				t.Errorf("something was done:\n%s", calls)
			}
		})
	}
}

func TestGrowvolsUndo(t *testing.T) {
	undo := map[string]string{
		"partprobe": "sgdisk --delete=6 /dev/sda\n",
		"pvcreate":  "sgdisk --delete=6 /dev/sda\n",
		"vgextend":  "pvremove --yes /dev/sda6\nsgdisk --delete=6 /dev/sda\n",
		"lvextend":  "vgreduce vg /dev/sda6\npvremove --yes /dev/sda6\nsgdisk --delete=6 /dev/sda\n",
		// A volume has grown: there is no way back.
		"xfs_growfs": "",
	}
	for failing, want := range undo {
		t.Run(failing, func(t *testing.T) {
			m := plain().machine(t)
			m.fake(failing, "echo broken; exit 5")
			out, status := m.run(growvols, "--yes")
			_, after, _ := strings.Cut(m.called(), "\n"+failing)
			_, after, _ = strings.Cut(after, "\n")
			if status != 1 || after != want || !strings.Contains(out, "broken\n") || !strings.Contains(out, "failed with exit status 5") {
				t.Errorf("exit status %d, undone:\n%s\n%s", status, after, out)
			}
		})
	}
}

func TestGrowvolsEnvironment(t *testing.T) {
	m := plain().machine(t)
	m.env = []string{"GROWVOLS_ARGS=/home=20%   fs_var=1GiB", "GROWVOLS_GROUP=vg", "GROWVOLS_DEVICE=sda"}
	if out := m.mustRun(growvols, "--noop"); !strings.Contains(out, "/dev/mapper/vg-lv_home") || !strings.Contains(out, "/dev/mapper/vg-lv_var") {
		t.Error(out)
	}
	m.env[1] = "GROWVOLS_GROUP=other"
	if out, status := m.run(growvols, "--noop"); status != 1 || !strings.Contains(out, "no volume group other") {
		t.Errorf("exit status %d: %s", status, out)
	}
	if out := m.mustRun(growvols, "--noop", "--group=vg", "/tmp=1GiB"); strings.Contains(out, "lv_home") {
		t.Error(out)
	}
}

// TestGrowvolsPrompt answers on a terminal.
func TestGrowvolsPrompt(t *testing.T) {
	for answer, done := range map[string]bool{"y": true, "Yes": true, "": false, "n": false, "ok": false} {
		m := plain().machine(t)
		m.run(growvols, "--help") // writes the script
		m.fake("on-terminal", `printf '%s\n' "$ANSWER" | script -qec "$ROOT/in_target.d/sbin/growvols" /dev/null`)
		m.env = []string{"ANSWER=" + answer}
		commandtest.Write(t, m.root, map[string]string{"x!": "#!/bin/bash\nexec on-terminal\n"})
		m.called()
		out, status := m.runFile(m.root + "/x")
		if calls := m.called(); status != 0 || strings.Contains(calls, "pvcreate") != done || !strings.Contains(out, "[y/N]") {
			t.Errorf("answer %q: exit status %d\n%s\n%s", answer, status, calls, out)
		}
	}
}

func TestGrowvolsHook(t *testing.T) {
	const hook = "growvols/post-install.d/80-growvols"
	build := func(env ...string) *machine {
		m := newMachine(t, nil)
		m.env = append([]string{"DIB_INIT_SYSTEM=systemd", "DIB_GROWVOLS_TRIGGER=systemd", "DIB_GROWVOLS_ARGS=", "DIB_GROWVOLS_GROUP=", "DIB_GROWVOLS_DEVICE="}, env...)
		return m
	}
	t.Run("M72 no sudo in the image", func(t *testing.T) {
		m := build(`DIB_GROWVOLS_ARGS=/home=20% my "$label"=1GiB`, "DIB_GROWVOLS_GROUP=vg", "DIB_GROWVOLS_DEVICE=sda")
		m.mustRun(hook)
		want := "GROWVOLS_ARGS=\"/home=20% my \\\"\\$label\\\"=1GiB\"\nGROWVOLS_GROUP=\"vg\"\nGROWVOLS_DEVICE=\"sda\"\n"
		if got := m.read("etc/default/growvols"); got != want || m.mode("etc/default/growvols") != 0o644 {
			t.Errorf("%s", got)
		}
		if calls := m.called(); calls != "systemctl enable growvols.service\n" {
			t.Error(calls)
		}
	})
	m := build("DIB_GROWVOLS_TRIGGER=manual")
	m.mustRun(hook)
	if m.exists("etc/default/growvols") || m.called() != "" {
		t.Error("manual enables something")
	}
	for _, env := range [][]string{{"DIB_GROWVOLS_TRIGGER=cron"}, {"DIB_INIT_SYSTEM=openrc"}} {
		m := build(env...)
		if out, status := m.run(hook); status != 1 || m.exists("etc/default/growvols") {
			t.Errorf("%v: exit status %d: %s", env, status, out)
		}
	}
}
