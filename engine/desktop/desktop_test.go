package desktop

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const gedit = `# a comment
[Desktop Entry]
Type=Application
Name=Text Editor
Name[de]=Texteditor
Name[de_AT]=Schreibding
Comment=Edit text\sfiles
Keywords=Text;Editor;
Exec=gedit %U
Icon=org.gnome.gedit
Categories=GNOME;GTK;Utility;
StartupWMClass=Gedit

[Desktop Action new]
Name=New Window
Exec=gedit --new-window
`

func TestEntries(t *testing.T) {
	t.Setenv("XDG_CURRENT_DESKTOP", "XFCE")
	t.Setenv("LC_ALL", "de_AT.UTF-8")
	first, second := t.TempDir(), t.TempDir()
	app := func(dir, id, more string) {
		write(t, filepath.Join(dir, "applications", id+".desktop"), "[Desktop Entry]\nType=Application\nName="+id+"\nExec="+id+"\n"+more)
	}
	write(t, first+"/applications/gedit.desktop", gedit)
	app(second, "gedit", "")                      // hidden by the first folder's
	app(second, "kde/konsole", "Terminal=true\n") // below a folder
	app(second, "settings", "NoDisplay=true\n")
	app(second, "gone", "Hidden=true\n")
	app(second, "kdeonly", "OnlyShowIn=KDE;\n")
	app(second, "xfceonly", "OnlyShowIn=KDE;XFCE;\n")
	app(second, "notxfce", "NotShowIn=XFCE;\n")
	app(second, "missing", "TryExec=/no/such/program\n")
	app(second, "link", "Type=Link\n")
	write(t, second+"/applications/link2.desktop", "[Desktop Entry]\nType=Link\nName=x\nExec=x\n")
	write(t, second+"/applications/broken.desktop", "\x00\xff no file\n[Desktop")
	got := Entries([]string{first, second, "/no/such"})
	var ids, hidden []string
	for _, e := range got {
		if ids = append(ids, e.ID); e.Hidden {
			hidden = append(hidden, e.ID)
		}
	}
	if want := []string{"kde-konsole", "kdeonly", "link", "notxfce", "gedit", "settings", "xfceonly"}; !slices.Equal(ids, want) {
		t.Errorf("%q", ids)
	}
	if want := []string{"kdeonly", "notxfce", "settings"}; !slices.Equal(hidden, want) {
		t.Errorf("hidden: %q", hidden)
	}
	for _, e := range got {
		switch e.ID {
		case "gedit":
			if e.Name != "Schreibding" || e.Comment != "Edit text files" || !slices.Equal(e.Keywords, []string{"Text", "Editor"}) || e.Exec != "gedit %U" {
				t.Errorf("%+v", e)
			}
		case "kde-konsole":
			if !e.Terminal {
				t.Error("no terminal")
			}
		}
	}
}

func TestLanguages(t *testing.T) {
	for value, want := range map[string]string{"de_AT.UTF-8@euro": "de_AT@euro de_AT de@euro de", "fr": "fr", "C.UTF-8": "", "POSIX": ""} {
		t.Setenv("LC_ALL", value)
		if got := strings.Join(languages(), " "); got != want {
			t.Errorf("%s: %s", value, got)
		}
	}
}

func TestCommand(t *testing.T) {
	for exec, want := range map[string][]string{
		"gedit %U":                     {"gedit"},
		`"/opt/my app/run" --x "a b"`:  {"/opt/my app/run", "--x", "a b"},
		`sh -c "echo \"\$HOME\" \\\\"`: {"sh", "-c", `echo "$HOME" \\`},
		"env A=b prog --name=%c %i":    {"env", "A=b", "prog", "--name=The App", "--icon", "pic"},
		"prog %k 100%%":                {"prog", "/a/file.desktop", "100%"},
		"prog --file=%f":               {"prog", "--file="},
		`prog "%f"`:                    {"prog", ""},
	} {
		e := Entry{Name: "The App", Icon: "pic", File: "/a/file.desktop", Exec: exec}
		if got, err := e.Command(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", exec, got, err)
		}
	}
	for _, exec := range []string{"", `"open`, "%U", `""`} {
		e := Entry{Name: "x", Exec: exec}
		if got, err := e.Command(); err == nil {
			t.Errorf("%q is %q", exec, got)
		}
	}
}

func TestMatch(t *testing.T) {
	entries := []Entry{
		{ID: "org.xfce.mousepad-settings", Name: "s", Exec: "mousepad --preferences"},
		{ID: "org.xfce.mousepad", Name: "m", Exec: "mousepad %U"},
		{ID: "org.gnome.gedit", Name: "g", Exec: "gedit", WMClass: "Gedit"},
		{ID: "vim", Name: "v", Exec: "vim %F", Terminal: true},
		{ID: "idle", Name: "i", Exec: "/usr/bin/python3 /usr/bin/idle"},
		{ID: "twin-hidden", Name: "t", Exec: "twin", Hidden: true}, {ID: "twin-shown", Name: "t", Exec: "twin"},
	}
	for _, c := range []struct {
		instance, class string
		argv            []string
		want            string
	}{
		{"gedit", "Gedit", nil, "org.gnome.gedit"},
		{"mousepad", "Mousepad", []string{"mousepad"}, "org.xfce.mousepad"},
		{"", "Mousepad", nil, "org.xfce.mousepad"},
		{"", "", []string{"/usr/bin/vim", "notes"}, "vim"},
		{"", "", []string{"python3", "-u", "/usr/bin/idle"}, "idle"},
		{"", "", []string{"twin"}, "twin-shown"},
		{"xclock", "XClock", []string{"xclock"}, ""},
		{"", "", nil, ""},
	} {
		got := ""
		if e := Match(entries, c.instance, c.class, c.argv); e != nil {
			got = e.ID
		}
		if got != c.want {
			t.Errorf("%s %s %q: %q, wanted %q", c.instance, c.class, c.argv, got, c.want)
		}
	}
}

func TestIcons(t *testing.T) {
	data := t.TempDir()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(data, "config"))
	write(t, data+"/config/gtk-3.0/settings.ini", "[Settings]\ngtk-icon-theme-name=Mine\n")
	index := "[Icon Theme]\nName=x\nDirectories=48x48/apps,128x128/apps,scalable/apps,symbolic/apps\n"
	for dir, size := range map[string]string{"48x48": "48", "128x128": "128", "scalable": "64", "symbolic": "16"} {
		index += "[" + dir + "/apps]\nSize=" + size + "\n"
	}
	for theme, inherits := range map[string]string{"Mine": "Parent", "Parent": "hicolor,Mine", "hicolor": ""} {
		write(t, data+"/icons/"+theme+"/index.theme", strings.Replace(index, "Name=x", "Inherits="+inherits, 1))
	}
	icons := data + "/icons/"
	write(t, icons+"Mine/48x48/apps/both.png", "")
	write(t, icons+"Mine/128x128/apps/both.png", "")
	write(t, icons+"Mine/scalable/apps/both.svg", "")
	write(t, icons+"Mine/symbolic/apps/both.svg", "")
	write(t, icons+"Parent/48x48/apps/parent.png", "")
	write(t, icons+"hicolor/48x48/apps/parent.png", "")
	write(t, icons+"hicolor/scalable/apps/plain.svg", "")
	write(t, data+"/pixmaps/old.png", "")
	all := OpenIcons([]string{data})
	for _, c := range []struct {
		name string
		size int
		want string
	}{
		{"both", 32, "Mine/48x48/apps/both.png Mine/128x128/apps/both.png Mine/scalable/apps/both.svg"},
		{"both", 64, "Mine/128x128/apps/both.png Mine/scalable/apps/both.svg Mine/48x48/apps/both.png"},
		{"both", 256, "Mine/scalable/apps/both.svg Mine/128x128/apps/both.png Mine/48x48/apps/both.png"},
		{"parent", 48, "Parent/48x48/apps/parent.png"},
		{"plain.svg", 48, "hicolor/scalable/apps/plain.svg"},
		{"old", 48, "../pixmaps/old.png"},
		{"../../../etc/passwd", 48, ""}, {"nothing", 48, ""}, {"", 48, ""},
	} {
		var got []string
		for _, f := range all.Find(c.name, c.size) {
			rel, _ := filepath.Rel(icons, f)
			got = append(got, rel)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s at %d: %q", c.name, c.size, got)
		}
	}
	if got := all.Find("/a/path.png", 48); !slices.Equal(got, []string{"/a/path.png"}) {
		t.Errorf("%q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(gedit)
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := parse(strings.NewReader(text), []string{"de"}); err == nil {
			e.Command() //nolint:errcheck // must not panic
			Match([]Entry{*e}, "x", "y", []string{"z"})
		}
	})
}
