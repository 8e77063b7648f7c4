package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"image"
	"io"
	"strings"
	"testing"
)

// person works a host's desktop by `hither-lab input`.
type person struct {
	t     testing.TB
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func (l testLab) person(host string) *person {
	l.t.Helper()
	cmd := l.command("input", host)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	return &person{l.t, stdin, bufio.NewScanner(stdout)}
}

func (p *person) try(format string, a ...any) answer {
	p.t.Helper()
	line := fmt.Sprintf(format, a...)
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
	var got answer
	if !p.lines.Scan() {
		p.t.Fatalf("%s: no answer: %v", line, p.lines.Err())
	}
	if err := json.Unmarshal(p.lines.Bytes(), &got); err != nil {
		p.t.Fatalf("%s: %q: %v", line, p.lines.Bytes(), err)
	}
	return got
}

func (p *person) do(format string, a ...any) answer {
	p.t.Helper()
	got := p.try(format, a...)
	if got.Error != "" {
		p.t.Fatalf(format+": %s", append(a, got.Error)...)
	}
	return got
}

func TestInputTypes(t *testing.T) {
	t.Parallel()
	l := desktopLab(t)
	const text = `Hello, World! #42 <{[|]}> ~^'"\`
	for _, host := range []string{"a", "b"} {
		l.sh(host, `cat >/tmp/script <<'X'
read -r line; printf '%s\n' "$line" >/tmp/typed; read -rsn1 key; printf %s "$key" | od -An -tx1 >>/tmp/typed; mv /tmp/typed /tmp/line
X
			setsid xterm -T typewriter -e bash /tmp/script >/dev/null 2>&1 &`)
		p := l.person(host)
		if w := p.do("focus typewriter").Window; w == nil || w.Class != "XTerm" || !w.Active || w.Width < 100 {
			t.Fatalf("on host %s: %+v", host, w)
		}
		p.do("type %s", text)
		p.do("key Return")
		p.do("key ctrl+a")
		p.do("gone typewriter")
		if got := l.ok("exec", host, "--", "cat", "/tmp/line"); got != text+"\n 01\n" {
			t.Errorf("host %s read %q", host, got)
		}
		if a := p.try("type %s", "漢"); !strings.Contains(a.Error, "no key") {
			t.Errorf("a character that is on no key: %+v", a)
		}
		if a := p.try("key ctrl+Nonsense"); !strings.Contains(a.Error, "Nonsense") {
			t.Errorf("a key that there is not: %+v", a)
		}
		if a := p.try("dance"); a.Error == "" {
			t.Errorf("a command that there is not: %+v", a)
		}
	}
}

// TestInputKeepsOrder: keys after a click do not overtake it at a window manager that takes its time.
func TestInputKeepsOrder(t *testing.T) {
	t.Parallel()
	l := desktopLab(t, "--hosts", "1")
	// A question that the terminal has answered, by 6 bytes, was after its order to tell of clicks: by 6 bytes
	// for the press and 6 for the release.
	l.sh("a", `cat >/tmp/script <<'X'
stty raw -echo; printf '\033[?1000h\033[6n'; head -c 6 >/tmp/ready; head -c 13 >/tmp/typed
X
		setsid xterm -T clicked -e sh /tmp/script >/dev/null 2>&1 &`)
	p := l.person("a")
	w := p.do("focus clicked").Window
	p.do("move %d %d", w.X+20, w.Y+20)
	eventually(t, "the terminal tells of clicks", func() bool {
		out, _, _ := l.try("exec", "a", "--", "cat", "/tmp/ready")
		return out != ""
	})
	l.sh("a", `p=$(xprop -root -notype _OPENBOX_PID | sed 's/.*= //'); kill -STOP $p; (sleep 0.5; kill -CONT $p) >/dev/null 2>&1 &`)
	p.do("click")
	p.do("type x")
	p.do("gone clicked")
	if got := l.ok("exec", "a", "--", "cat", "/tmp/typed"); !strings.HasSuffix(got, "x") {
		t.Errorf("the terminal got %q", got)
	}
}

func TestInputMouse(t *testing.T) {
	l := desktopLab(t, "--hosts", "1")
	l.sh("a", "setsid xterm -T one -geometry 30x8+100+100 >/dev/null 2>&1 & setsid xterm -T two -geometry 30x8+500+100 >/dev/null 2>&1 &")
	p := l.person("a")
	at := func(name string) *window { return p.do("wait %s", name).Window }
	one, two := at("one"), at("two")

	// A click gives the keyboard.
	for _, w := range []*window{one, two, one} {
		p.do("move %d %d", w.X+20, w.Y+20)
		p.do("click")
		eventually(t, "the clicked window has the keyboard", func() bool { return at(w.Title).Active })
	}
	// By its title bar a window is moved.
	p.do("move %d %d", one.X+30, one.Y-8)
	p.do("drag %d %d", one.X+230, one.Y+292)
	want := image.Pt(one.X+200, one.Y+300)
	eventually(t, "the window follows the mouse", func() bool {
		w := at("one")
		return image.Pt(w.X, w.Y) == want
	})
	// A menu is there for as long as the button is held.
	popups := func() (n int) {
		for _, w := range p.do("windows").Windows {
			if w.Popup {
				n++
			}
		}
		return n
	}
	p.do("move %d %d", two.X+20, two.Y+20)
	p.do("down ctrl")
	p.do("press 1")
	eventually(t, "a menu is there", func() bool { return popups() == 1 })
	p.do("release 1")
	p.do("up ctrl")
	eventually(t, "the menu is gone", func() bool { return popups() == 0 })
	p.do("close two")
	p.do("gone two")
	if n := len(p.do("windows").Windows); n != 1 {
		t.Errorf("%d windows are left of two", n)
	}
	if out, _, status := l.try("input", "a", "wait", "one"); status != 0 || !strings.Contains(out, `"title":"one"`) {
		t.Errorf("a command as arguments: %d %q", status, out)
	}
	if out, _, status := l.try("input", "a", "wait"); status != 1 || !strings.Contains(out, `"error"`) {
		t.Errorf("waiting for nothing: %d %q", status, out)
	}
}
