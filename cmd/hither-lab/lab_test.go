package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// program is the hither-lab under test: that of `make build`, or one built for this run.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	program = filepath.Join(os.Getenv("HITHER_BIN"), "hither-lab")
	if !filepath.IsAbs(program) {
		dir, err := os.MkdirTemp("", "hither-lab-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		// Root's labs run as somebody else, who must get in.
		os.Chmod(dir, 0o755)
		program = filepath.Join(dir, "hither-lab")
		build := exec.Command("go", "build", "-o", dir, ".", "../hither")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building hither-lab: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

var labCount atomic.Int32

// testLab is a lab of the test's own.
type testLab struct {
	t    testing.TB
	name string
}

func newLab(t testing.TB, upArgs ...string) testLab {
	t.Helper()
	l := unmadeLab(t)
	l.ok(append([]string{"up", "--no-daemon", "--no-desktop"}, upArgs...)...)
	return l
}

func unmadeLab(t testing.TB) testLab {
	l := testLab{t, fmt.Sprintf("test-%d-%d", os.Getpid(), labCount.Add(1))}
	t.Cleanup(func() {
		if out, err := l.command("down").CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	return l
}

func (l testLab) command(args ...string) *exec.Cmd {
	cmd := exec.Command(program, append([]string{"--lab", l.name}, args...)...)
	cmd.Dir = "/"
	return cmd
}

// try runs hither-lab and gives what it wrote and its exit status.
func (l testLab) try(args ...string) (stdout, stderr string, status int) {
	l.t.Helper()
	cmd := l.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.t.Fatalf("hither-lab %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ok runs hither-lab, which must succeed.
func (l testLab) ok(args ...string) string {
	l.t.Helper()
	out, errs, status := l.try(args...)
	if status != 0 {
		l.t.Fatalf("hither-lab %s: status %d\n%s%s", strings.Join(args, " "), status, out, errs)
	}
	return out
}

// sh runs a shell script on a host, which must succeed.
func (l testLab) sh(host, script string) string {
	l.t.Helper()
	return l.ok("exec", host, "--", "sh", "-c", script)
}

func (l testLab) status() labStatus {
	l.t.Helper()
	var s labStatus
	if err := json.Unmarshal([]byte(l.ok("status", "--json")), &s); err != nil {
		l.t.Fatal(err)
	}
	return s
}

func TestExecStatus(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		want int
		argv []string
	}{
		{0, []string{"true"}},
		{7, []string{"sh", "-c", "exit 7"}},
		{255, []string{"sh", "-c", "exit 255"}},
		{128 + 9, []string{"sh", "-c", "kill -9 $$"}},
		{128 + 15, []string{"sh", "-c", "kill -15 $$"}},
		{127, []string{"no-such-program"}},
		{127, []string{"/no/such/program"}},
		{126, []string{"/etc/hosts"}},
		{126, []string{"/usr"}},
	} {
		if _, errs, status := l.try(append([]string{"exec", "b", "--"}, c.argv...)...); status != c.want {
			t.Errorf("%q: status %d instead of %d (%s)", c.argv, status, c.want, errs)
		}
	}
	if _, errs, status := l.try("exec", "z", "--", "true"); status != 125 || !strings.Contains(errs, `no host "z"`) {
		t.Errorf("a host that is not there: status %d, %q", status, errs)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_MACHINE", "1")
	l := newLab(t)
	env := "\n" + l.ok("exec", "-e", "EXTRA=x y", "a", "--", "env")
	s := l.status()
	for _, want := range []string{
		"HOME=/home/lab", fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", s.User), "LANG=C.UTF-8", "EXTRA=x y",
		"PATH=" + s.Bin + ":", "XDG_STATE_HOME=/home/lab/.local/state",
	} {
		if !strings.Contains(env, "\n"+want) {
			t.Errorf("no %q in:%s", want, env)
		}
	}
	if strings.Contains(env, "SECRET") || strings.Contains(env, "TMPDIR") {
		t.Errorf("the machine's own environment shows:%s", env)
	}
	if got := l.ok("exec", "-e", "HOME=/somewhere", "a", "--", "printenv", "HOME"); got != "/somewhere\n" {
		t.Errorf("a variable that is set anew is %q", got)
	}
	script := `id -u; id -un; hostname; grep CapPrm /proc/self/status | tr -d '\t'; cat /proc/sys/kernel/hostname
		touch $HOME/x /tmp/x /run/user/$(id -u)/x /dev/shm/x /var/tmp/x && which hither-lab`
	want := fmt.Sprintf("%d\nlab\na\nCapPrm:0000000000000000\na\n%s/hither-lab\n", s.User, s.Bin)
	if got := l.sh("a", script); got != want {
		t.Errorf("on the host:\n%s\nwanted:\n%s", got, want)
	}
	if os.Getuid() == 0 && s.User == 0 {
		t.Error("a host runs as root")
	}
	// What one host has, the other has not.
	if _, _, status := l.try("exec", "b", "--", "ls", "/home/lab/x"); status == 0 {
		t.Error("hosts share a home")
	}
	if _, _, status := l.try("exec", "b", "--", "ls", "/tmp/x"); status == 0 {
		t.Error("hosts share /tmp")
	}
}

func TestFolderStays(t *testing.T) {
	l := newLab(t)
	for from, want := range map[string]string{"/usr/share": "/usr/share\n", t.TempDir(): "/home/lab\n"} {
		cmd := l.command("exec", "a", "--", "pwd")
		cmd.Dir = from
		out, err := cmd.Output()
		if err != nil || string(out) != want {
			t.Errorf("from %s: in %q (%v) instead of %q", from, out, err, want)
		}
	}
}

func TestShare(t *testing.T) {
	dir, err := os.MkdirTemp("/var/tmp", "hither-lab-share")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("shared"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, "--share", dir, "--hosts", "1")
	if got := l.ok("exec", "a", "--", "cat", filepath.Join(dir, "f")); got != "shared" {
		t.Errorf("read %q from the shared folder", got)
	}
	l.ok("kill", "a", "all")
	l.ok("start", "a")
	if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
		t.Errorf("booting a host emptied a shared folder: %v", err)
	}
}

func TestDiskSize(t *testing.T) {
	l := newLab(t, "--hosts", "1", "--disk", "1m")
	if _, _, status := l.try("exec", "a", "--", "sh", "-c", "head -c 3000000 /dev/zero >~/big"); status == 0 {
		t.Error("3 MB fit on a disk of 1 MiB")
	}
}

func TestNestedNamespaces(t *testing.T) {
	l := newLab(t, "--hosts", "1")
	got := l.ok("exec", "a", "--", "unshare", "-Urpf", "--mount-proc", "sh", "-c", "echo $$; ls -d /proc/[0-9]* | wc -l; mount -t tmpfs x /mnt && echo mounted")
	if !strings.HasPrefix(got, "1\n") || !strings.HasSuffix(got, "mounted\n") {
		t.Errorf("a user namespace inside a host: %q", got)
	}
}

func TestStatus(t *testing.T) {
	l := newLab(t, "--hosts", "3")
	s := l.status()
	if !s.Up || len(s.Hosts) != 3 || s.Name != l.name || s.PID == 0 {
		t.Fatalf("status: %+v", s)
	}
	for i, h := range s.Hosts {
		if h.Name != hostName(i+1) || h.Address != fmt.Sprintf("10.99.0.%d", i+1) || !h.Alive || h.Daemon != 0 || h.Link == nil || h.Link.Cut {
			t.Errorf("host %d: %+v", i, h)
		}
	}
	if _, errs, status := l.try("up", "--no-daemon", "--no-desktop"); status != 1 || !strings.Contains(errs, "is up already") {
		t.Errorf("a second up: status %d, %q", status, errs)
	}
	if _, errs, status := unmadeLab(t).try("status"); status != 1 || !strings.Contains(errs, "is not up") {
		t.Errorf("status of no lab: status %d, %q", status, errs)
	}
}

func TestPairedFromTheStart(t *testing.T) {
	l := newLab(t, "--hosts", "3")
	ids := map[string]bool{}
	for _, host := range []string{"a", "b", "c"} {
		var book struct {
			Peers []struct {
				ID, Name    string
				Addresses   []string
				Permissions map[string]bool
			}
		}
		text := l.ok("exec", host, "--", "cat", "/home/lab/.local/share/hither/peers.json")
		if err := json.Unmarshal([]byte(text), &book); err != nil {
			t.Fatal(err)
		}
		var names string
		for _, p := range book.Peers {
			names += p.Name
			ids[p.ID] = true
			if len(p.Addresses) != 2 || !p.Permissions["send"] {
				t.Errorf("on %s: peer %+v", host, p)
			}
		}
		if want := strings.ReplaceAll("abc", host, ""); names != want {
			t.Errorf("host %s is paired with %q, not with %q", host, names, want)
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d identities for three hosts", len(ids))
	}
}

func TestStrangers(t *testing.T) {
	l := newLab(t, "--strangers")
	if text := l.ok("exec", "a", "--", "sh", "-c", "cat /home/lab/.local/share/hither/peers.json 2>/dev/null || echo none"); strings.Contains(text, `"name"`) {
		t.Errorf("a host that nobody paired has %s", text)
	}
}

func TestMissingDaemon(t *testing.T) {
	// A copy of the program alone, beside which there is no hither.
	dir, err := os.MkdirTemp("", "hither-lab-alone")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	data, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "hither-lab"), data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	l := unmadeLab(t)
	cmd := exec.Command(filepath.Join(dir, "hither-lab"), "--lab", l.name, "up")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "make build") {
		t.Errorf("up without a daemon to start: %v, %q", err, out)
	}
	if _, errs, status := l.try("status"); status != 1 {
		t.Errorf("a lab is left after a failed up: %q", errs)
	}
}
