package notify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"hither/engine/display"
)

const patience = 20 * time.Second

// bus is a session bus of a test's.
type bus struct {
	t       testing.TB
	runtime string
	socket  string
	cmd     *exec.Cmd
}

func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	return path
}

func startBus(t testing.TB, runtime string) *bus {
	t.Helper()
	b := &bus{t: t, runtime: runtime, socket: filepath.Join(runtime, "bus")}
	b.cmd = exec.Command(need(t, "dbus-daemon"), "--session", "--address=unix:path="+b.socket, "--nofork", "--nopidfile", "--nosyslog", "--print-address=1")
	b.cmd.Env = b.env()
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.end)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("dbus-daemon did not start: %v", err)
	}
	return b
}

func (b *bus) end() {
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	_ = b.cmd.Wait()
}

func (b *bus) address() string { return "unix:path=" + b.socket }

func (b *bus) env() []string {
	return []string{"DBUS_SESSION_BUS_ADDRESS=" + b.address(), "XDG_RUNTIME_DIR=" + b.runtime, "HOME=" + b.runtime,
		"PATH=" + filepath.Join(b.runtime, display.Links) + ":" + os.Getenv("PATH"), "GIO_USE_VFS=local",
		"XDG_DATA_DIRS=" + filepath.Join(b.runtime, display.Links, "share") + ":/usr/share",
		"XDG_CONFIG_DIRS=" + filepath.Join(b.runtime, display.Links, "xdg") + ":/etc/xdg"}
}

// run runs a program as one of those that use the bus.
func (b *bus) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	program := filepath.Join(b.runtime, display.Links, "xdg-open")
	if args[0] != "xdg-open" {
		program = need(b.t, args[0])
	}
	cmd := exec.CommandContext(ctx, program, args[1:]...)
	cmd.Env = b.env()
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (b *bus) connect() *dbus.Conn {
	b.t.Helper()
	c, err := dbus.Connect(b.address())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

// desktop is a desktop's notification daemon.
type desktop struct {
	c     *dbus.Conn
	mu    sync.Mutex
	next  uint32
	shown []string
	hints []map[string]dbus.Variant
	gone  []uint32
}

func startDesktop(b *bus, first uint32) *desktop {
	b.t.Helper()
	d := &desktop{c: b.connect(), next: first}
	if err := d.c.Export(d, notificationsPath, notificationsName); err != nil {
		b.t.Fatal(err)
	}
	if r, err := d.c.RequestName(notificationsName, 0); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		b.t.Fatal(r, err)
	}
	return d
}

func (d *desktop) Notify(message dbus.Message, app string, replaces uint32, icon, summary, body string, actions []string, _ map[string]dbus.Variant, expires int32) (uint32, *dbus.Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown = append(d.shown, fmt.Sprintf("%s %d %s %s %s %q %d", app, replaces, icon, summary, body, actions, expires))
	d.hints = append(d.hints, message.Body[6].(map[string]dbus.Variant))
	if summary == "refuse" {
		return 0, dbus.NewError("org.example.Refused", []any{"not this one"})
	}
	if replaces != 0 {
		return replaces, nil
	}
	d.next++
	return d.next, nil
}

func (d *desktop) CloseNotification(id uint32) *dbus.Error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = append(d.gone, id)
	return nil
}

func (d *desktop) GetCapabilities() ([]string, *dbus.Error) { return []string{"actions", "body"}, nil }

func (d *desktop) GetServerInformation() (string, string, string, string, *dbus.Error) {
	return "a desktop", "tests", "1", "1.2", nil
}

func (d *desktop) last() (string, map[string]dbus.Variant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.shown) == 0 {
		return "", nil
	}
	return d.shown[len(d.shown)-1], d.hints[len(d.hints)-1]
}

// list is what has been opened.
type list struct {
	mu   sync.Mutex
	uris []string
}

func (l *list) add(uri string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uris = append(l.uris, uri)
}

func (l *list) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.uris)
}

// start is a Notify between two buses.
func start(t testing.TB, app, desk *bus, opened *list) *Notify {
	t.Helper()
	n := New(Options{
		Desk: desk.address(),
		Open: func(uri string) error {
			if strings.Contains(uri, "fail") {
				return errors.New("no browser")
			}
			opened.add(uri)
			return nil
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	t.Cleanup(n.Close)
	ok(t, n.Bus(app.socket))
	return n
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func next(t testing.TB, signals chan *dbus.Signal) *dbus.Signal {
	t.Helper()
	select {
	case s := <-signals:
		return s
	case <-time.After(patience):
		t.Fatal("no signal comes")
		return nil
	}
}

// TestNotify: what real clients say inside is shown outside, and what a person
// does there is told inside.
func TestNotify(t *testing.T) {
	app, desk := startBus(t, t.TempDir()), startBus(t, t.TempDir())
	d := startDesktop(desk, 40)
	n := start(t, app, desk, nil)

	if out, err := app.run("notify-send", "-p", "-a", "mail", "-i", "letter", "-u", "critical", "-t", "1234", "A letter", "from <b>me</b>"); err != nil || out != "41" {
		t.Fatalf("notify-send: %v: %s", err, out)
	}
	shown, hints := d.last()
	if shown != `mail 0 letter A letter from <b>me</b> [] 1234` || hints["urgency"].Value() != byte(2) || hints["sender-pid"].Value() != nil {
		t.Errorf("the desktop shows %s with %v", shown, hints)
	}
	if out, err := app.run("notify-send", "-p", "-r", "41", "Another"); err != nil || out != "41" {
		t.Errorf("replacing: %v: %s", err, out)
	}
	if shown, _ := d.last(); !strings.Contains(shown, " 41 ") {
		t.Errorf("it does not replace: %s", shown)
	}
	// The desktop's own, of another app.
	if out, err := app.run("notify-send", "-p", "-r", "40", "Foreign"); err != nil || out != "42" {
		t.Errorf("replacing another's: %v: %s", err, out)
	}
	if out, err := app.run("notify-send", "refuse"); err == nil || !strings.Contains(out, "not this one") {
		t.Errorf("refused: %v: %s", err, out)
	}

	c := app.connect()
	signals := make(chan *dbus.Signal, 10)
	c.Signal(signals)
	ok(t, c.AddMatchSignal(dbus.WithMatchInterface(notificationsName)))
	o := c.Object(notificationsName, notificationsPath)
	var id uint32
	image := picture{1, 1, 3, false, 8, 3, []byte{1, 2, 3}}
	large := picture{1, 1, 3, false, 8, 3, make([]byte, maxImage+1)}
	odd := struct{ A, B int32 }{1, 2}
	ok(t, o.Call(notificationsName+".Notify", 0, "chat", uint32(0), "", "Hello", "", []string{"default", "Answer"},
		map[string]dbus.Variant{"image-data": dbus.MakeVariant(image), "icon_data": dbus.MakeVariant(large), "odd": dbus.MakeVariant(odd),
			"list": dbus.MakeVariant([]string{"a", "b"}), "value": dbus.MakeVariant(int32(-5))}, int32(-1)).Store(&id))
	_, hints = d.last()
	var got picture
	if v := hints["image-data"]; v.Signature().String() != "(iiibiiay)" || dbus.Store([]any{v.Value()}, &got) != nil || !reflect.DeepEqual(got, image) {
		t.Errorf("the picture is %v", hints["image-data"])
	}
	if len(hints) != 3 || fmt.Sprint(hints["list"].Value(), hints["value"].Value()) != "[a b] -5" {
		t.Errorf("a picture of more than is allowed, or what nobody knows, was carried, or others were not: %v", hints)
	}
	ok(t, d.c.Emit(notificationsPath, notificationsName+".ActionInvoked", uint32(40), "default")) // another's
	ok(t, d.c.Emit(notificationsPath, notificationsName+".ActionInvoked", id, "default"))
	ok(t, d.c.Emit(notificationsPath, notificationsName+".NotificationClosed", id, uint32(2)))
	for _, want := range []string{fmt.Sprint("ActionInvoked [", id, " default]"), fmt.Sprint("NotificationClosed [", id, " 2]")} {
		s := next(t, signals)
		for !strings.HasPrefix(s.Name, notificationsName) {
			s = next(t, signals)
		}
		if got := strings.TrimPrefix(s.Name, notificationsName+".") + " " + fmt.Sprint(s.Body); got != want {
			t.Errorf("the app hears %s, not %s", got, want)
		}
	}
	if err := o.Call(notificationsName+".CloseNotification", 0, id).Err; err == nil {
		t.Error("what is closed was closed again")
	}
	ok(t, o.Call(notificationsName+".CloseNotification", 0, uint32(42)).Err)
	if d.mu.Lock(); !slices.Equal(d.gone, []uint32{42}) {
		t.Errorf("closed: %v", d.gone)
	}
	d.mu.Unlock()
	var can []string
	ok(t, o.Call(notificationsName+".GetCapabilities", 0).Store(&can))
	var name, vendor, version, spec string
	ok(t, o.Call(notificationsName+".GetServerInformation", 0).Store(&name, &vendor, &version, &spec))
	if !slices.Equal(can, []string{"actions", "body"}) || name != "a desktop" || spec != "1.2" {
		t.Errorf("%q %q %q", can, name, spec)
	}

	// A move: to let go leaves nothing, and the next desktop knows none of them.
	n.Part()
	if err := o.Call(notificationsName+".GetCapabilities", dbus.FlagNoAutoStart).Err; err == nil {
		t.Error("it still answers")
	}
	second := startBus(t, t.TempDir())
	d2 := startDesktop(second, 100)
	n2 := start(t, app, second, nil)
	if out, err := app.run("notify-send", "-p", "-r", "41", "After"); err != nil || out != "101" {
		t.Errorf("on the next desktop: %v: %s", err, out)
	}
	if shown, _ := d2.last(); !strings.Contains(shown, " 0 ") {
		t.Errorf("it replaces what is not there: %s", shown)
	}
	ok(t, n.Bus(""))         // once more does no harm
	ok(t, n.Bus(app.socket)) // nor does a bus that comes too late
	if n.app != nil {
		t.Error("it took part after it had parted")
	}
	n2.Close()
	n.Back()
	ok(t, n.Bus(app.socket))
	if out, err := app.run("notify-send", "-p", "-r", "41", "Back"); err != nil || out != "41" {
		t.Errorf("on the first desktop again: %v: %s", err, out)
	}
}

// TestDesktopGone: a desktop without a bus, one without notifications, and one
// that starts anew.
func TestDesktopGone(t *testing.T) {
	app := startBus(t, t.TempDir())
	desk := &bus{t: t, runtime: t.TempDir()}
	desk.socket = filepath.Join(desk.runtime, "bus")
	n := start(t, app, desk, nil)
	if out, err := app.run("notify-send", "x"); err == nil || !strings.Contains(out, "desktop") {
		t.Errorf("without a bus: %v: %s", err, out)
	}
	started := startBus(t, desk.runtime)
	if out, err := app.run("notify-send", "x"); err == nil || out == "" {
		t.Errorf("without notifications: %v: %s", err, out)
	}
	startDesktop(started, 0)
	if out, err := app.run("notify-send", "-p", "x"); err != nil || out != "1" {
		t.Errorf("%v: %s", err, out)
	}
	n.mu.Lock()
	c := n.desk
	n.mu.Unlock()
	started.end()
	<-c.Context().Done()
	startDesktop(startBus(t, desk.runtime), 7)
	if out, err := app.run("notify-send", "-p", "x"); err != nil || out != "8" {
		t.Errorf("after the bus began anew: %v: %s", err, out)
	}
}

// TestHungBus: one that does not answer, as one that is frozen, holds up nobody
// who lets go.
func TestHungBus(t *testing.T) {
	app := startBus(t, t.TempDir())
	ok(t, app.cmd.Process.Signal(syscall.SIGSTOP))
	defer app.cmd.Process.Signal(syscall.SIGCONT) //nolint:errcheck // it runs
	n := New(Options{Log: slog.New(slog.DiscardHandler)})
	defer n.Close()
	done := make(chan error)
	go func() { done <- n.Bus(app.socket) }()
	for hung := false; !hung; {
		n.mu.Lock()
		hung = n.live != nil
		n.mu.Unlock()
	}
	n.Part()
	select {
	case err := <-done:
		ok(t, err)
	case <-time.After(answerWithin / 2):
		t.Fatal("it does not let go")
	}
}

// TestFirstCall: what is said before the bridge has come waits for it.
func TestFirstCall(t *testing.T) {
	runtime := t.TempDir()
	for range 2 {
		ok(t, Prepare("/", runtime))
	}
	app, desk := startBus(t, runtime), startBus(t, t.TempDir())
	startDesktop(desk, 0)
	var opened list
	said := make(chan string, 2)
	go func() {
		out, err := app.run("notify-send", "-p", "early")
		said <- fmt.Sprint(out, err)
	}()
	go func() {
		out, err := app.run("xdg-open", "https://example.org/early")
		said <- fmt.Sprint(out, err)
	}()
	// Both have had the bus start what waits for us.
	c := app.connect()
	waiting := func() int {
		out, err := exec.Command("pgrep", "-c", "-P", fmt.Sprint(app.cmd.Process.Pid)).Output()
		if err != nil {
			return 0
		}
		var n int
		_, _ = fmt.Sscan(string(out), &n)
		return n
	}
	for end := time.Now().Add(3 * time.Second); waiting() < 2 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	var owned bool
	ok(t, c.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, notificationsName).Store(&owned))
	if owned {
		t.Fatal("the name is taken")
	}
	start(t, app, desk, &opened)
	for range 2 {
		select {
		case s := <-said:
			if s != "1<nil>" && s != "<nil>" {
				t.Error(s)
			}
		case <-time.After(patience):
			t.Fatal("it was not heard")
		}
	}
	if !slices.Equal(opened.all(), []string{"https://example.org/early"}) {
		t.Errorf("opened %q", opened.all())
	}
}

func TestLinks(t *testing.T) {
	runtime := t.TempDir()
	ok(t, Prepare("/", runtime))
	app, desk := startBus(t, runtime), startBus(t, t.TempDir())
	var opened list
	start(t, app, desk, &opened)
	for _, link := range []string{"https://example.org/a?b=c&d=%20e#f", "HTTP://example.org", "mailto:a@example.org?subject=x"} {
		if out, err := app.run("xdg-open", link); err != nil {
			t.Errorf("xdg-open %s: %v: %s", link, err, out)
		}
	}
	if out, err := app.run("xdg-open", "https://example.org/fail"); err == nil || !strings.Contains(out, "no browser") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := app.run("xdg-open", "https://"); err == nil || !strings.Contains(out, "no host") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := app.run("gdbus", "call", "--session", "--dest", portalName, "--object-path", string(portalPath), "--method", openURI+".OpenURI", "", "https://portal.example.org/", "{}"); err != nil || !strings.Contains(out, "/request/") {
		t.Errorf("gdbus: %v: %s", err, out)
	}
	c := app.connect()
	signals := make(chan *dbus.Signal, 10)
	c.Signal(signals)
	o := c.Object(portalName, portalPath)
	want := dbus.ObjectPath("/org/freedesktop/portal/desktop/request/" + strings.ReplaceAll(c.Names()[0][1:], ".", "_") + "/mine")
	ok(t, c.AddMatchSignal(dbus.WithMatchObjectPath(want)))
	var request dbus.ObjectPath
	ok(t, o.Call(openURI+".OpenURI", 0, "", "https://example.org/token", map[string]dbus.Variant{"handle_token": dbus.MakeVariant("mine")}).Store(&request))
	s := next(t, signals)
	for s.Path != want {
		s = next(t, signals)
	}
	if request != want || s.Name != requestIface+".Response" || s.Body[0] != uint32(0) {
		t.Errorf("%s: %v", request, s)
	}
	if out, err := app.run("gio", "open", "https://gio.example.org/"); err != nil {
		t.Errorf("gio: %v: %s", err, out)
	}
	for end := time.Now().Add(patience); len(opened.all()) < 6 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	for _, bad := range []string{"file:///etc/passwd", "javascript:alert(1)", "https://a b", "--help"} {
		if err := o.Call(openURI+".OpenURI", 0, "", bad, map[string]dbus.Variant{}).Err; err == nil {
			t.Errorf("%q was opened", bad)
		}
	}
	v, err := o.GetProperty(openURI + ".version")
	if err != nil || v.Value() != uint32(1) {
		t.Errorf("version %v %v", v, err)
	}
	if want := []string{"https://example.org/a?b=c&d=%20e#f", "HTTP://example.org", "mailto:a@example.org?subject=x", "https://portal.example.org/", "https://example.org/token", "https://gio.example.org/"}; !slices.Equal(opened.all(), want) {
		t.Errorf("opened %q", opened.all())
	}
}

// TestPrepareStaysInside: a link inside the capsule does not lead out of it.
func TestPrepareStaysInside(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	ok(t, os.MkdirAll(filepath.Join(root, "run/user/1"), 0o700))
	ok(t, os.Symlink(outside, filepath.Join(root, "run/user/1", display.Links)))
	if err := Prepare(root, "/run/user/1"); err == nil {
		t.Error("it followed the link")
	}
	if list, _ := os.ReadDir(outside); len(list) != 0 {
		t.Errorf("it wrote %v", list)
	}
}

func FuzzLink(f *testing.F) {
	for _, s := range []string{"https://example.org", "mailto:x", "file:///x", "http://", "-x", "https://a\nb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if checkLink(s) != nil {
			return
		}
		lower := strings.ToLower(s)
		if !strings.HasPrefix(lower, "http://") && !strings.HasPrefix(lower, "https://") && !strings.HasPrefix(lower, "mailto:") || strings.ContainsAny(s, " \t\n\x00") {
			t.Errorf("%q passes", s)
		}
	})
}
