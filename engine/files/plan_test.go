package files

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bare is a layer made by hand.
func bare(t *testing.T, led Ledger) *Layer {
	t.Helper()
	l, err := makeLayer(filepath.Join(t.TempDir(), "id", "layer"))
	if err != nil {
		t.Fatal(err)
	}
	l.Ledger = led
	return l
}

func (l *Layer) plan(t *testing.T, hostHome string) []Mount {
	t.Helper()
	p, err := l.Plan(hostHome)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPlanHomes: the app sees its home where it was, and no other.
func TestPlanHomes(t *testing.T) {
	host, err := os.UserHomeDir()
	if err != nil {
		t.Skip(err)
	}
	l := bare(t, Ledger{Home: "/home/hither-nobody", Private: []string{"/home/hither-nobody"}})
	write(t, l.dir+"/docs/home/hither-nobody/doc", "mine", 0o600)
	got := inside(t, l.plan(t, host), `ls /home; cat /home/hither-nobody/doc; echo; ls -A `+host+` 2>/dev/null | wc -l
		echo x > /home/hither-nobody/new && echo written`)
	if want := lines("hither-nobody", "mine", "0", "written"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if read(t, l.dir+"/docs/home/hither-nobody/new") != "x\n" {
		t.Error("not in the layer")
	}
	// The same home on both.
	l = bare(t, Ledger{Home: host, Private: []string{host}})
	write(t, l.dir+"/docs"+host+"/doc", "mine", 0o600)
	if got := inside(t, l.plan(t, host), "ls -A "+host); got != "doc\n" {
		t.Errorf("in a home of the same name: %q", got)
	}
}

// TestPlanSingle: a document in a directory that is not the app's.
func TestPlanSingle(t *testing.T) {
	l := bare(t, Ledger{})
	write(t, l.dir+"/docs/etc/debian_version", "own", 0o644)
	write(t, l.dir+"/docs/usr/share/hither-none/state", "own state", 0o644)
	write(t, l.dir+"/docs/hither-top/x", "top", 0o644)
	got := inside(t, l.plan(t, ""), `cat /etc/debian_version; echo
		echo more >> /usr/share/hither-none/state; cat /usr/share/hither-none/state /hither-top/x; echo; ls /usr/share | wc -l`)
	list, _ := os.ReadDir("/usr/share")
	if want := []string{"own", "own statemore", "top"}; !strings.HasPrefix(got, lines(want...)) {
		t.Errorf("got %q of %d", got, len(list))
	}
	if read(t, l.dir+"/docs/usr/share/hither-none/state") != "own statemore\n" {
		t.Error("not in the layer")
	}
}

// TestPlanFarm: a directory that has mounts below it cannot be overlaid.
func TestPlanFarm(t *testing.T) {
	l := bare(t, Ledger{})
	write(t, l.dir+"/sys/usr/share/hither-none/x", "carried", 0o644)
	write(t, l.dir+"/sys/usr/share/base-files/hither-x", "carried too", 0o644)
	write(t, l.dir+"/sys/usr/share/hither-file", "a file", 0o644)
	os.Symlink("hither-file", l.dir+"/sys/usr/share/hither-link")
	if err := os.MkdirAll("/usr/share/base-files", 0o755); err != nil {
		t.Skip("no base-files here")
	}
	mountPoints = func() ([]string, error) { return []string{"/", "/usr/share/doc"}, nil }
	defer func() { mountPoints = readMountPoints }()
	plan := l.plan(t, "")
	for _, m := range plan {
		if m.Kind == MountOverlay && m.Target == "/usr/share" {
			t.Fatal("an overlay all the same")
		}
	}
	got := inside(t, plan, `cat /usr/share/hither-none/x /usr/share/base-files/hither-x /usr/share/hither-link; echo
		ls /usr/share/base-files | wc -l; ls /usr/share | wc -l`)
	base, _ := os.ReadDir("/usr/share/base-files")
	all, _ := os.ReadDir("/usr/share")
	want := []string{"carriedcarried tooa file", itoa(len(base) + 1), itoa(len(all) + 3)}
	if got != lines(want...) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPlanAtHome: nothing of the host is hidden or covered at the origin.
func TestPlanAtHome(t *testing.T) {
	l := bare(t, Ledger{Home: "/home/x", AtHome: true})
	write(t, l.dir+"/docs/home/x/f", "on its way", 0o600)
	if p := l.plan(t, "/home/x"); len(p) != 0 {
		t.Errorf("%+v", p)
	}
}

func TestHides(t *testing.T) {
	for _, c := range [][3]string{
		{"/home/a", "/home/b", "/home"},
		{"/home/a", "/home/a", "/home"},
		{"/home/a", "/root", "/home /root"},
		{"/root", "/root", "/root"},
		{"", "/home/b", "/home/b"},
		{"/data/people/a", "/data/people/b", "/data/people"},
		{"/srv/app", "/home/b", "/home/b"},
		{"", "", ""},
	} {
		if got := strings.Join(hides(c[0], c[1]), " "); got != c[2] {
			t.Errorf("hides(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestOverlayOptions(t *testing.T) {
	l := bare(t, Ledger{})
	odd := filepath.Join(filepath.Dir(l.dir), `o:d,d\y`)
	if err := os.Rename(l.dir, odd); err != nil {
		t.Fatal(err)
	}
	l.dir = odd
	write(t, l.dir+"/sys/usr/share/hither-none", "seen", 0o644)
	if got := inside(t, l.plan(t, ""), "cat /usr/share/hither-none"); got != "seen" {
		t.Error(got)
	}
}
