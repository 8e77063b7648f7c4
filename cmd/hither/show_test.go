package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
)

// What the window shows of apps, asked for over the control socket as it does.

func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

func (h *host) startApp(r control.StartRequest) *control.App {
	h.t.Helper()
	r.Dir = "/"
	a, err := h.client.Start(h.t.Context(), r)
	if err != nil {
		h.t.Fatalf("starting %+v: %v", r, err)
	}
	return a
}

// look waits until an app looks as it should.
func (h *host) look(name, what string, right func(a control.App) bool) control.App {
	h.t.Helper()
	var found control.App
	eventually(h.t, name+" "+what, func() error {
		list, err := h.client.LookAtApps(h.t.Context())
		if err != nil {
			return err
		}
		for _, a := range list.Apps {
			if a.Name == name {
				if found = a; right(a) {
					return nil
				}
			}
		}
		return fmt.Errorf("it is %+v", found)
	})
	return found
}

func decoded(t *testing.T, b []byte, err error) image.Image {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// count counts the pixels of a picture.
func count(m image.Image, of func(r, g, b uint32) bool) (n int) {
	b := m.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if r, g, b, _ := m.At(x, y).RGBA(); of(r>>8, g>>8, b>>8) {
				n++
			}
		}
	}
	return n
}

func red(r, g, b uint32) bool { return r > 0xb0 && g < 0x30 && b < 0x30 }

// TestShowTerminal: an app in a terminal has its title, its screen as a picture, an icon; to look at it starts nothing.
func TestShowTerminal(t *testing.T) {
	hs := hosts(t, "a", "b")
	a, b := hs[0], hs[1]
	made := a.startApp(control.StartRequest{Command: []string{"sh", "-c", `printf '\033]2;my title\007\033[41m      \033[m\n'; exec cat`}, Name: "colours"})
	if made.Name != "colours" || made.State != "running" {
		t.Fatalf("%+v", made)
	}
	app := a.look("colours", "has its title", func(a control.App) bool { return a.Title == "my title" })
	if app.Memory == 0 || app.Windows != 0 || len(app.Problems) != 0 {
		t.Errorf("%+v", app)
	}
	png, err := a.client.Thumbnail(t.Context(), "colours", 240, 150)
	m := decoded(t, png, err)
	if s := m.Bounds(); s.Dx() > 240 || s.Dy() > 150 || s.Dx() < 120 {
		t.Errorf("the picture is %v", s)
	}
	if n := count(m, red); n < 20 {
		t.Errorf("%d red pixels", n)
	}
	icon, err := a.client.Icon(t.Context(), "colours", 40)
	if s := decoded(t, icon, err).Bounds(); s.Dx() != 40 || s.Dy() != 40 {
		t.Errorf("the icon is %v", s)
	}
	if whole, err := a.client.App(t.Context(), "colours"); err != nil || len(whole.Processes) != 1 {
		t.Errorf("to look has started something: %+v, %v", whole.Processes, err)
	}
	// Who has the picture is not sent it again.
	raw := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(a.dir, "run/hither/control.sock"))
	}}}
	get := func(tag string) *http.Response {
		t.Helper()
		r, err := http.NewRequest("GET", "http://h/v1/apps/colours/thumbnail?width=240&height=150", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("If-None-Match", tag)
		resp, err := raw.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	if first := get(""); first.StatusCode != 200 || first.Header.Get("ETag") == "" || get(first.Header.Get("ETag")).StatusCode != http.StatusNotModified {
		t.Errorf("%s, %v", first.Status, first.Header)
	}
	raw.CloseIdleConnections()
	for _, bad := range []func() error{
		func() error { _, err := a.client.Thumbnail(t.Context(), "colours", 0, 5); return err },
		func() error { _, err := a.client.Thumbnail(t.Context(), "colours", 5, 1e6); return err },
		func() error { _, err := a.client.Icon(t.Context(), "colours", 5000); return err },
		func() error { _, err := a.client.Icon(t.Context(), "nobody", 40); return err },
		func() error { _, err := b.client.PeerIcon(t.Context(), "a", "nobody", 40); return err },
	} {
		if err := bad(); err == nil {
			t.Error("a senseless request is answered")
		}
	}
	// A peer sees the same icon.
	if theirs, err := b.client.PeerIcon(t.Context(), "a", "colours", 40); err != nil || !bytes.Equal(theirs, icon) {
		t.Errorf("the icon as b sees it: %d bytes, %v", len(theirs), err)
	}

	// Both sides remember a move, also one that was refused.
	if r, err := a.client.Send(t.Context(), "colours", "b", nil); err != nil || r.Outcome != handover.Moved {
		t.Fatalf("%+v, %v", r, err)
	}
	b.look("colours", "is on b", func(a control.App) bool { return a.Title == "my title" })
	for _, h := range hs {
		list, err := h.client.History(t.Context())
		side := map[string]string{"a": "source", "b": "destination"}[h.name]
		if err != nil || len(list.Moves) != 1 || list.Moves[0].Side != side || list.Moves[0].Result.App != "colours" || list.Moves[0].Result.DowntimeMS == 0 {
			t.Errorf("%s: %+v, %v", h.name, list, err)
		}
	}
	if _, err := a.client.Thumbnail(t.Context(), "colours", 240, 150); err == nil {
		t.Error("an app that has gone shows something")
	}
	if _, err := a.client.Icon(t.Context(), "colours", 40); err != nil {
		t.Errorf("an app that has gone has no icon: %v", err)
	}
}

// TestShowWindow: a window can be looked at as often as one likes, which stands in the way of no move.
func TestShowWindow(t *testing.T) {
	needs(t, "Xvfb", "xclock")
	hs := hosts(t, "a", "b")
	hs[0].startApp(control.StartRequest{Command: []string{"xclock", "-title", "the time", "-bg", "red", "-geometry", "300x200"}, Name: "clock"})
	hs[0].look("clock", "has a window", func(a control.App) bool { return a.Title == "the time" && a.Windows == 1 })
	shows := func(h *host) {
		t.Helper()
		eventually(t, "the clock's face on "+h.name, func() error {
			b, err := h.client.Thumbnail(t.Context(), "clock", 150, 150)
			if err != nil {
				return err
			}
			m := decoded(t, b, err)
			if s := m.Bounds(); s.Dx() != 150 || s.Dy() != 100 {
				return fmt.Errorf("it is %v", s)
			}
			if n := count(m, red); n < 150*100/2 {
				return fmt.Errorf("%d red pixels", n)
			}
			return nil
		})
	}
	shows(hs[0])
	ctx, stop := context.WithCancel(t.Context())
	var lookers sync.WaitGroup
	for _, h := range hs {
		lookers.Go(func() {
			for ctx.Err() == nil {
				h.client.Thumbnail(ctx, "clock", 100, 100) //nolint:errcheck // it may be on the move
				h.client.LookAtApps(ctx)                   //nolint:errcheck // likewise
			}
		})
	}
	for i := range 2 {
		from, to := hs[i%2], hs[(i+1)%2]
		if r, err := from.client.Send(t.Context(), "clock", to.name, nil); err != nil || r.Outcome != handover.Moved {
			t.Errorf("to %s: %+v, %v", to.name, r, err)
		}
	}
	stop()
	lookers.Wait()
	shows(hs[0])
}

// TestInstalled: what the menu has is listed and started.
func TestInstalled(t *testing.T) {
	a := hosts(t, "a")[0]
	marks := filepath.Join(a.dir, "home")
	for name, text := range map[string]string{
		"applications/editor.desktop":  "Name=An Editor\nComment=Edits\nIcon=editor\nExec=sleep 1234 %U\nCategories=Utility;\n",
		"applications/browse.desktop":  "Name=Browser\nExec=" + marks + "/chromium %u\n",
		"applications/hidden.desktop":  "Name=Hidden\nExec=true\nNoDisplay=true\n",
		"applications/texts.desktop":   "Name=In a terminal\nExec=cat\nTerminal=true\n",
		"applications/itself.desktop":  "Name=Itself\nExec=hither-gui\n",
		"icons/hicolor/index.theme":    "",
		"icons/hicolor/64x64/apps/.no": "",
	} {
		file := filepath.Join(a.dir, "data", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".desktop") {
			text = "[Desktop Entry]\nType=Application\n" + text
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(marks+"/chromium", []byte("#!/bin/sh\necho \"$@\" >"+marks+"/args\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	list, err := a.client.Installed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string]control.InstalledApp{}
	for _, i := range list.Apps {
		byID[i.ID] = i
	}
	if e := byID["editor"]; e.Name != "An Editor" || e.Comment != "Edits" || e.Terminal || e.Sandboxed || !slices.Equal(e.Categories, []string{"Utility"}) {
		t.Errorf("%+v", e)
	}
	if !byID["browse"].Sandboxed || !byID["texts"].Terminal || byID["hidden"].ID != "" || byID["itself"].ID != "" {
		t.Errorf("%+v", byID)
	}
	if icon, err := a.client.InstalledIcon(t.Context(), "editor", 32); decoded(t, icon, err).Bounds().Dx() != 32 {
		t.Error("the icon has another size")
	}
	for _, r := range []control.StartRequest{{}, {Installed: "nothing"}, {Installed: "editor", Command: []string{"x"}}, {Installed: "editor", Unsandboxed: true},
		{Command: []string{"no-such-program"}}, {Command: []string{"true"}, Dir: "home"}, {Command: []string{"true"}, Name: "a b"}} {
		if made, err := a.client.Start(t.Context(), r); err == nil {
			t.Errorf("%+v is started: %+v", r, made)
		}
	}
	first, second := a.startApp(control.StartRequest{Installed: "editor"}), a.startApp(control.StartRequest{Installed: "editor"})
	if first.Name != "sleep" || second.Name != "sleep-2" || !slices.Equal(first.Command, []string{"sleep", "1234"}) || first.ID == second.ID {
		t.Errorf("%+v, %+v", first, second)
	}
	a.startApp(control.StartRequest{Installed: "texts"})
	a.startApp(control.StartRequest{Installed: "browse", Unsandboxed: true})
	eventually(t, "the browser has begun", func() error {
		b, err := os.ReadFile(marks + "/args")
		if err == nil && string(b) != "--no-sandbox --no-zygote\n" {
			err = fmt.Errorf("its arguments are %q", b)
		}
		return err
	})
}

// startDesktop starts a desktop with a window manager for a test, whose client is on it from then on.
func startDesktop(t *testing.T) {
	t.Helper()
	needs(t, "Xvfb", "openbox", "xprop")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	server := exec.Command("Xvfb", "-displayfd", "3", "-nolisten", "tcp", "-screen", "0", "800x600x24", "-noreset")
	server.ExtraFiles = []*os.File{write}
	begin(t, server)
	write.Close()
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb has not started: %v", err)
	}
	t.Setenv("DISPLAY", ":"+strings.TrimSpace(line))
	for _, name := range []string{"XAUTHORITY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"} {
		t.Setenv(name, "")
	}
	begin(t, exec.Command("openbox", "--sm-disable"))
	eventually(t, "a window manager", func() error {
		out, err := exec.Command("xprop", "-root", "_NET_SUPPORTING_WM_CHECK").CombinedOutput()
		if err == nil && !strings.Contains(string(out), "0x") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}

// begin starts a program that ends with the test.
func begin(t *testing.T, c *exec.Cmd) {
	t.Helper()
	var said bytes.Buffer
	if c.Stderr = &said; c.Stdout == nil {
		c.Stdout = &said
	}
	c.WaitDelay = time.Second
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	t.Cleanup(func() {
		c.Process.Kill() //nolint:errcheck // it may have ended
		if err := <-done; t.Failed() {
			t.Logf("%q: %v\n%s", c.Args, err, said.Bytes())
		}
	})
}

// TestOutside: a program that runs outside is listed, and restarted in hither if it closes.
func TestOutside(t *testing.T) {
	needs(t, "xclock", "xterm")
	startDesktop(t)
	a := hosts(t, "a")[0]
	clock := exec.Command("xclock", "-title", "outside")
	begin(t, clock)
	term := exec.Command("xterm", "-e", "sleep", "1000")
	begin(t, term)
	var seen map[int]control.OutsideApp
	listed := func(n int) {
		t.Helper()
		eventually(t, strconv.Itoa(n)+" programs outside", func() error {
			list, err := a.client.Outside(t.Context())
			if err != nil {
				return err
			}
			seen = map[int]control.OutsideApp{}
			for _, o := range list.Apps {
				seen[o.Pid] = o
			}
			if len(seen) != n {
				return fmt.Errorf("there are %+v", list.Apps)
			}
			return nil
		})
	}
	listed(2)
	if o := seen[clock.Process.Pid]; o.Title != "outside" || !o.Restart || o.Memory == 0 {
		t.Errorf("%+v", o)
	}
	if o := seen[term.Process.Pid]; o.Restart || o.Why == "" {
		t.Errorf("%+v", o)
	}
	for _, pid := range []int{term.Process.Pid, os.Getpid(), 1, 0} {
		if made, err := a.client.RestartOutside(t.Context(), pid); err == nil {
			t.Errorf("%d is restarted: %+v", pid, made)
		}
	}
	made, err := a.client.RestartOutside(t.Context(), clock.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(made.Command, []string{"xclock", "-title", "outside"}) {
		t.Errorf("%+v", made)
	}
	// Its window in hither is not listed outside.
	a.look("xclock", "has its window", func(a control.App) bool { return a.Windows == 1 })
	eventually(t, "a window on the desktop", func() error {
		out, err := exec.Command("xprop", "-root", "_NET_CLIENT_LIST").CombinedOutput()
		if err == nil && strings.Count(string(out), "0x") != 2 {
			err = fmt.Errorf("there are %s", out)
		}
		return err
	})
	listed(1)
}

// TestEvents: the events of the daemon can be listened to from a script.
func TestEvents(t *testing.T) {
	a := hosts(t, "a")[0]
	cmd := exec.Command(a.bin, "events")
	cmd.Env = a.env()
	out, in := io.Pipe()
	defer in.Close()
	cmd.Stdout = in
	begin(t, cmd)
	lines := make(chan string, 100)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	// It listens from some moment on.
	told := false
	for end := time.After(20 * time.Second); !told; {
		if _, err := a.client.ChangeSettings(t.Context(), control.Settings{}); err != nil {
			t.Fatal(err)
		}
		select {
		case line := <-lines:
			told = strings.Contains(line, `"event":"settings"`)
		case <-time.After(50 * time.Millisecond):
		case <-end:
			t.Fatal("no event")
		}
	}
}
