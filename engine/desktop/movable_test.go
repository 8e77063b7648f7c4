package desktop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const padFile = `# a comment
[Desktop Entry]
Type=Application
Name=Pad
Exec=pad %F
Actions=new-window;
DBusActivatable=true

[Desktop Action new-window]
Name=New Window
Exec=pad --new-window
`

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"/usr/bin/hither": "/usr/bin/hither",
		"/home/a b/h":     `"/home/a b/h"`,
		`/odd/"$%`:        `"/odd/\\"\\$%%"`,
		`/odd/\`:          `"/odd/\\\\"`,
		"":                `""`,
	} {
		if got := Quote(word); got != want {
			t.Errorf("%s is written %s, not %s", word, got, want)
		}
		e := Entry{Exec: unescape(want) + " x"}
		if argv, err := e.Command(); word != "" && (err != nil || argv[0] != word) {
			t.Errorf("%s is read as %q, %v", want, argv, err)
		}
	}
}

// TestMovable: an action is added, renewed and removed; the system's file and the user's own stay.
func TestMovable(t *testing.T) {
	user, system := t.TempDir(), t.TempDir()
	dirs := []string{user, system}
	put := func(dir, id, text string) string {
		t.Helper()
		name := filepath.Join(dir, "applications", id+".desktop")
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	find := func(id string) Entry {
		t.Helper()
		for _, e := range Entries(dirs) {
			if e.ID == id {
				return e
			}
		}
		t.Fatalf("there is no %s", id)
		return Entry{}
	}
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	source := put(system, "pad", padFile)
	own := put(user, "mine", "[Desktop Entry]\nType=Application\nName=Mine\nExec=mine\n")
	if err := AddMovable(dirs, find("mine"), "/bin/hither", "desktop", "open"); err == nil || !strings.Contains(err.Error(), "your own") {
		t.Errorf("a file of the user's own: %v", err)
	}
	for range 2 { // the second time changes nothing
		if err := AddMovable(dirs, find("pad"), "/opt/my bin/hither", "desktop", "open"); err != nil {
			t.Fatal(err)
		}
	}
	ours := filepath.Join(user, "applications", "pad.desktop")
	got := read(ours)
	for _, want := range []string{"\nActions=new-window;hither-movable;\n", "\n[Desktop Action hither-movable]\nName=Open movable\n", "\nExec=\"/opt/my bin/hither\" desktop open pad\n", "\nExec=pad %F\n", "\n[Desktop Action new-window]\n", "# a comment\n"} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%d times %q in\n%s", strings.Count(got, want), want, got)
		}
	}
	if strings.Contains(got, "DBusActivatable") {
		t.Error("messages would start it, and the action would not be heard")
	}
	if read(source) != padFile {
		t.Error("the system's file was changed")
	}
	if program, err := exec.LookPath("desktop-file-validate"); err == nil {
		if out, err := exec.Command(program, ours).CombinedOutput(); err != nil || strings.Contains(string(out), "error") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if e := find("pad"); e.Exec != "pad %F" || e.File != ours {
		t.Errorf("the app is now %+v", e)
	}
	// It is updated.
	put(system, "pad", strings.Replace(padFile, "Name=Pad", "Name=Pad 2", 1))
	if err := Refresh(dirs); err != nil {
		t.Fatal(err)
	}
	if e := find("pad"); e.Name != "Pad 2" || !strings.Contains(read(ours), "Open movable") {
		t.Errorf("after an update it is %+v\n%s", e, read(ours))
	}
	all, err := Movables(dirs)
	if err != nil || len(all) != 1 || all[0].ID != "pad" || all[0].From != source {
		t.Fatalf("%+v, %v", all, err)
	}
	if err := all[0].Remove(); err != nil {
		t.Fatal(err)
	}
	if e := find("pad"); e.File != source {
		t.Errorf("after all it is %+v", e)
	}
	if all, err := Movables(dirs); err != nil || len(all) != 0 {
		t.Errorf("left: %+v, %v", all, err)
	}
	// The app is removed; a file that took the place of ours stays.
	if err := AddMovable(dirs, find("pad"), "hither"); err != nil {
		t.Fatal(err)
	}
	all, _ = Movables(dirs)
	os.Remove(source)
	if err := Refresh(dirs); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(ours); !os.IsNotExist(err) {
		t.Error("the app is gone, and its copy is there")
	}
	put(user, "pad", "[Desktop Entry]\nType=Application\nName=P\nExec=p\n")
	if err := all[0].Remove(); err != nil || read(ours) == "" || read(own) == "" {
		t.Error("somebody else's file was removed")
	}
}

func FuzzWithMovable(f *testing.F) {
	f.Add([]byte(padFile))
	f.Add([]byte("[Desktop Entry]\nActions=;;\n[x]\nActions=a"))
	f.Fuzz(func(t *testing.T, text []byte) {
		out := withMovable(text, "/a\\ b", "x y")
		group, err := parseGroup(strings.NewReader(string(out)), "Desktop Entry")
		if err != nil {
			return
		}
		before, err := parseGroup(strings.NewReader(string(text)), "Desktop Entry")
		if err == nil && group["Exec"] != before["Exec"] {
			t.Errorf("Exec was %q and is %q", before["Exec"], group["Exec"])
		}
	})
}
