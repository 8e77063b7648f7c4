package capsule

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// probe is what a program sees from inside a capsule.
type probe struct {
	UID, GID, Pid, Parent, Session int
	Caps                           map[string]string
	Host, Dir                      string
	Umask                          int
	Monotonic, Boottime            int64
	Files                          []string // open descriptors
	Loopback                       string   // error
	Env                            []string
	Ptrace, Memory, RootWrite      string // errors: what must not work
	Descriptors, Kill              string
}

// probeMain runs as the app.
func probeMain() {
	var p probe
	p.UID, p.GID, p.Pid, p.Parent = os.Getuid(), os.Getgid(), os.Getpid(), os.Getppid()
	p.Session, _ = unix.Getsid(0)
	status, _ := os.ReadFile("/proc/self/status")
	p.Caps = map[string]string{}
	for _, line := range strings.Split(string(status), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.HasPrefix(name, "Cap") {
			p.Caps[name] = strings.TrimSpace(value)
		}
	}
	p.Host, _ = os.Hostname()
	p.Dir, _ = os.Getwd()
	p.Umask = unix.Umask(0)
	p.Monotonic, p.Boottime = clock(unix.CLOCK_MONOTONIC), clock(unix.CLOCK_BOOTTIME)
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, f := range fds {
		target, err := os.Readlink("/proc/self/fd/" + f.Name())
		if err == nil && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/proc/") && !strings.HasPrefix(target, "/sys/") {
			p.Files = append(p.Files, target)
		}
	}
	p.Env = os.Environ()
	p.Loopback = says(loopbackWorks())
	p.Ptrace = says(unix.PtraceSeize(1))
	_, err := os.Open("/proc/1/mem")
	p.Memory = says(err)
	_, err = os.Readlink("/proc/1/fd/0")
	p.Descriptors = says(err)
	p.RootWrite = says(os.Mkdir("/hither-was-here", 0o755))
	p.Kill = says(unix.Kill(1, unix.SIGKILL)) // allowed, without effect
	json.NewEncoder(os.Stdout).Encode(p)      //nolint:errcheck // the test sees what is missing
}

func says(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func clock(id int32) int64 {
	var ts unix.Timespec
	unix.ClockGettime(id, &ts) //nolint:errcheck // these clocks exist
	return ts.Nano()
}

func loopbackWorks() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	return c.Close()
}

// probePath puts the test binary where a capsule sees it.
func probePath(t *testing.T) string {
	t.Helper()
	to := filepath.Join(os.Getenv("HOME"), "probe")
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestInside(t *testing.T) {
	ctx := lab(t)
	path := probePath(t)
	const ahead = 1000 * 1e9
	s := Spec{
		Argv: []string{path, "probe"}, Env: append(os.Environ(), "DISPLAY=:7", "WAYLAND_DISPLAY=wayland-0", "COLOUR=green"),
		Dir: os.Getenv("HOME"), Umask: 0o027, Hostname: "elsewhere",
		Clocks: ClockOffsets{Monotonic: ahead, Boottime: -5e8},
	}
	before, beforeBoot := clock(unix.CLOCK_MONOTONIC), clock(unix.CLOCK_BOOTTIME)
	out, status := run(t, ctx, s)
	after := clock(unix.CLOCK_MONOTONIC)
	if status != 0 {
		t.Fatalf("status %d: %s", status, out)
	}
	var p probe
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if p.UID != os.Getuid() || p.GID != os.Getgid() {
		t.Errorf("ids are %d:%d", p.UID, p.GID)
	}
	if p.Pid != 2 || p.Parent != 1 || p.Session != 2 {
		t.Errorf("pid %d, parent %d, session %d; want 2, 1, 2", p.Pid, p.Parent, p.Session)
	}
	for name, value := range p.Caps {
		if strings.Trim(value, "0") != "" {
			t.Errorf("%s is %s", name, value)
		}
	}
	if len(p.Caps) != 5 {
		t.Errorf("capabilities: %v", p.Caps)
	}
	if p.Host != "elsewhere" || p.Dir != os.Getenv("HOME") || p.Umask != 0o027 {
		t.Errorf("host %q, folder %q, umask %#o", p.Host, p.Dir, p.Umask)
	}
	if p.Monotonic < before+ahead || p.Monotonic > after+ahead {
		t.Errorf("monotonic clock %d is not within %d and %d", p.Monotonic, before+int64(ahead), after+int64(ahead))
	}
	if d := p.Boottime - beforeBoot + 5e8; d < 0 || d > after-before {
		t.Errorf("boottime clock is off by %d ns", d)
	}
	if len(p.Files) != 3 {
		t.Errorf("open are %q, want 3", p.Files)
	}
	if p.Loopback != "" {
		t.Errorf("loopback: %s", p.Loopback)
	}
	for what, err := range map[string]string{"ptrace of pid 1": p.Ptrace, "memory of pid 1": p.Memory, "descriptors of pid 1": p.Descriptors, "writing to /": p.RootWrite} {
		if err == "" {
			t.Errorf("%s worked", what)
		}
	}
	env := strings.Join(p.Env, "\n")
	if lookup(p.Env, "DISPLAY") != ":0" || strings.Count(env, "DISPLAY=") != 1 || !strings.Contains(env, "COLOUR=green") || lookup(p.Env, "XDG_RUNTIME_DIR") != RuntimeDir(os.Getuid()) {
		t.Errorf("environment:\n%s", env)
	}
}

func TestPlaces(t *testing.T) {
	ctx := lab(t)
	secret, err := os.CreateTemp("/tmp", "outside-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(secret.Name())
	out, status := run(t, ctx, shell(`
		test -e `+secret.Name()+` && echo host /tmp is seen
		for d in /tmp /dev/shm $XDG_RUNTIME_DIR; do echo x > $d/inside-hither || echo $d is closed; done
		stat -c %a /tmp /dev/shm $XDG_RUNTIME_DIR | tr '\n' ' '
		for p in /proc/[0-9]*; do echo -n "${p#/proc/} "; done
		cat /proc/1/comm
		test -w /usr && test $(id -u) != 0 && echo /usr is writable
		ls -A / | tr '\n' ' '
	`))
	names, err := filepath.Glob("/*")
	if err != nil {
		t.Fatal(err)
	}
	want := "1777 1777 700 1 2 hither\n"
	for _, n := range names {
		want += strings.TrimPrefix(n, "/") + " "
	}
	if status != 0 || out != want {
		t.Fatalf("status %d, got:\n%s\nwant:\n%s", status, out, want)
	}
	for _, d := range []string{"/tmp", "/dev/shm"} {
		if _, err := os.Stat(d + "/inside-hither"); err == nil {
			t.Errorf("what the app wrote to %s is seen outside", d)
		}
	}
}

func TestMounts(t *testing.T) {
	ctx := lab(t)
	dir := filepath.Join(os.Getenv("HOME"), "a:b,c")
	for name, text := range map[string]string{"low/x": "low", "low/y": "low", "high/x": "high", "file": "bound"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"up", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := shell(`cd /; cat /opt/hither-none/merged/x /opt/hither-none/merged/y /usr/lib/hither-none/deep/file
		echo new > /opt/hither-none/merged/z && echo read-only overlay was written
		echo new > /opt/hither-none/upper/x && cat /opt/hither-none/upper/x
		mkdir /opt/hither-none/upper/d && mv /opt/hither-none/upper/d /opt/hither-none/upper/e && ls /opt/hither-none/upper | tr '\n' ' '
		cat /etc/hither-note /etc/hostname
		echo new > /opt/hither-none/tmp/a && cat /opt/hither-none/tmp/a
		stat -c %a /srv/hither-none
		exec 2>&1; echo no > /usr/lib/hither-none/deep/file`)
	s.Mounts = []Mount{
		{Kind: "overlay", Target: "/opt/hither-none/merged", Sources: []string{dir + "/high", dir + "/low"}},
		{Kind: "overlay", Target: "/opt/hither-none/upper", Sources: []string{dir + "/low"}, Upper: dir + "/up", Work: dir + "/work"},
		{Kind: "bind", Target: "/usr/lib/hither-none/deep/file", Sources: []string{dir + "/file"}, ReadOnly: true},
		{Kind: "file", Target: "/etc/hither-note", Data: []byte("note\n")},
		{Kind: "file", Target: "/etc/hostname", Data: []byte("told\n")},
		{Kind: "tmpfs", Target: "/opt/hither-none/tmp", Mode: 0o700},
		{Kind: "dir", Target: "/srv/hither-none", Mode: 0o750},
	}
	s.Argv[2] = "exec 2>/dev/null; " + s.Argv[2]
	out, _ := run(t, ctx, s)
	if !strings.HasPrefix(out, "highlowboundnew\ne x y note\ntold\nnew\n750\n") || !strings.Contains(out, "Read-only file system") {
		t.Errorf("got:\n%s", out)
	}
	if b, err := os.ReadFile(dir + "/up/x"); err != nil || string(b) != "new\n" {
		t.Errorf("upper file: %q, %v", b, err)
	}
	for _, p := range []string{"/opt/hither-none", "/usr/lib/hither-none", "/etc/hither-note", "/srv/hither-none"} {
		if _, err := os.Stat(p); err == nil {
			t.Errorf("%s was made on the host", p)
		}
	}
}

func TestBadMount(t *testing.T) {
	ctx := lab(t)
	s := shell("true")
	s.Mounts = []Mount{{Kind: "bind", Target: "/opt/x", Sources: []string{"/does/not/exist"}}}
	_, err := Start(ctx, s, [3]*os.File{})
	if err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Fatalf("got %v", err)
	}
}

// TestFileCapabilities runs ping or another program with file capabilities: with an
// empty bounding set it would not even start, were the root not nosuid.
func TestFileCapabilities(t *testing.T) {
	ctx := lab(t)
	ping, err := exec.LookPath("ping")
	if err != nil {
		t.Skip("no ping here")
	}
	if out, status := run(t, ctx, shell(ping+" -V")); status != 0 {
		t.Fatalf("status %d: %s", status, out)
	}
}
