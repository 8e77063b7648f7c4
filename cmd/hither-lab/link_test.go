package main

import (
	"bufio"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// echoServer answers on TCP port 7000 of a host until the test ends.
func (l testLab) echoServer(host string) {
	l.t.Helper()
	cmd := l.command("exec", host, "--", "python3", "-u", "-c", `
import socket, threading
def serve(c):
    while d := c.recv(1 << 16): c.sendall(d)
s = socket.create_server(('::', 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print('ready')
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()`)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if n, err := out.Read(make([]byte, 6)); n == 0 {
		l.t.Fatalf("no echo server on %s: %v", host, err)
	}
}

// echo asks the echo server of a host from another; "ok" or the error's name is the answer.
func (l testLab) echo(from, to string) string {
	l.t.Helper()
	return strings.TrimSpace(l.ok("exec", from, "--", "python3", "-c", `
import socket, sys, errno
try:
    s = socket.create_connection((sys.argv[1], 7000), timeout=0.4)
    s.sendall(b'hello')
    print('ok' if s.recv(5) == b'hello' else 'wrong')
except TimeoutError: print('timeout')
except OSError as e: print(errno.errorcode.get(e.errno, e))`, to))
}

func TestLink(t *testing.T) {
	l := newLab(t)
	l.echoServer("b")
	for _, to := range []string{"10.99.0.2", "fd99:6869:7468::2", "b"} {
		if got := l.echo("a", to); got != "ok" {
			t.Errorf("echo from %s: %s", to, got)
		}
	}
	if got := l.echo("a", "10.99.0.1"); got != "ECONNREFUSED" {
		t.Errorf("a host answers on its own address for another: %s", got)
	}
	if got := l.echo("a", "192.0.2.1"); got != "ENETUNREACH" {
		t.Errorf("a way out of the lab: %s", got)
	}
}

func TestCutAndHeal(t *testing.T) {
	t.Parallel()
	l := newLab(t, "--hosts", "3")
	l.echoServer("b")
	check := func(when, from, want string) {
		t.Helper()
		if got := l.echo(from, "10.99.0.2"); got != want {
			t.Errorf("%s, from %s to b: %s instead of %s", when, from, got, want)
		}
	}
	check("at first", "a", "ok")
	l.ok("cut", "a")
	check("a cut", "a", "timeout")
	check("a cut", "c", "ok")
	if got := l.sh("a", "cat /sys/class/net/eth0/carrier 2>/dev/null; ip -br addr show eth0 2>/dev/null"); strings.Contains(got, "DOWN") {
		t.Errorf("a host sees that its link is cut: %q", got)
	}
	if s := l.status(); !s.Hosts[0].Link.Cut || s.Hosts[1].Link.Cut {
		t.Errorf("status of a cut: %+v", s.Hosts)
	}
	l.ok("cut")
	check("all cut", "c", "timeout")
	l.ok("heal", "c")
	check("c healed alone", "c", "timeout")
	l.ok("heal")
	check("all healed", "a", "ok")
	check("all healed", "c", "ok")

	l.ok("cut", "--hard", "a")
	check("a cut hard", "a", "ENETUNREACH")
	check("a cut hard", "c", "ok")
	l.ok("heal", "a")
	check("a healed", "a", "ok")
	if got := l.echo("a", "fd99:6869:7468::2"); got != "ok" {
		t.Errorf("IPv6 after a hard cut: %s", got)
	}
	if _, errs, status := l.try("cut", "z"); status != 1 || !strings.Contains(errs, "no host") {
		t.Errorf("cutting a host that is not there: %d %q", status, errs)
	}
}

// transfer is how long a host takes to send some megabytes to another.
func (l testLab) transfer(from, to string, megabytes int) time.Duration {
	l.t.Helper()
	server := l.command("exec", to, "--", "python3", "-u", "-c", `
import socket, time
s = socket.create_server(('', 7001))
print('ready', flush=True)
c = s.accept()[0]
c.recv(1)
began, n = time.monotonic(), 0
while d := c.recv(1 << 20): n += len(d)
print(time.monotonic() - began)`)
	out, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	defer server.Wait()
	lines := bufio.NewReader(out)
	lines.ReadString('\n')
	l.ok("exec", from, "--", "python3", "-c", fmt.Sprintf(`
import socket
s = socket.create_connection((%q, 7001))
s.sendall(b'x' * (%d << 20))`, to, megabytes))
	line, _ := lines.ReadString('\n')
	seconds, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
	if err != nil {
		l.t.Fatalf("the receiver said %q", line)
	}
	return time.Duration(seconds * float64(time.Second))
}

func TestRate(t *testing.T) {
	l := newLab(t)
	l.ok("link", "--rate", "400mbit")
	// The link's rate bounds the time from below; a busy machine adds to it: the best of some counts.
	best := func(from, to string) time.Duration {
		return min(l.transfer(from, to, 8), l.transfer(from, to, 8), l.transfer(from, to, 8))
	}
	fast := best("a", "b")
	l.ok("link", "--rate", "100mbit", "b")
	slow := best("a", "b")
	back := best("b", "a")
	if ratio := float64(slow) / float64(fast); ratio < 2.5 || ratio > 6 {
		t.Errorf("a fourth of the rate took %.1f times as long (%v, %v)", ratio, slow, fast)
	}
	if ratio := float64(slow) / float64(back); ratio < 2 {
		t.Errorf("the way back is slow as well: %v, there %v", back, slow)
	}
	if got := l.ok("link"); got != "to a: 400mbit\nto b: 100mbit\n" {
		t.Errorf("link shows %q", got)
	}
	l.ok("link", "--rate", "0")
	if got := l.ok("link", "b"); got != "to b: unshaped\n" {
		t.Errorf("link shows %q", got)
	}
	if free := best("a", "b"); free > slow/2 {
		t.Errorf("unshaped %v, at 100 Mbit/s %v", free, slow)
	}
}

func TestDelayAndLoss(t *testing.T) {
	l := newLab(t)
	l.echoServer("b")
	// rtt is the shortest of some questions' times, in milliseconds.
	rtt := func() float64 {
		t.Helper()
		var ms float64
		fmt.Sscan(l.ok("exec", "a", "--", "python3", "-c", `
import socket, time
s = socket.create_connection(('10.99.0.2', 7000)); best = 1e9
for i in range(10):
    t = time.monotonic(); s.sendall(b'x'); s.recv(1); best = min(best, time.monotonic() - t)
print(best * 1000)`), &ms)
		return ms
	}
	if got := rtt(); got > 15 {
		t.Errorf("unshaped, an answer takes %.1f ms", got)
	}
	l.ok("link", "--delay", "30ms")
	if got := rtt(); got < 60 || got > 100 {
		t.Errorf("with 30 ms each way an answer takes %.1f ms", got)
	}
	l.ok("link", "--delay", "30ms", "--rate", "200mbit", "a")
	l.ok("link", "--rate", "0", "b")
	if got := rtt(); got < 30 || got > 70 {
		t.Errorf("with 30 ms one way an answer takes %.1f ms", got)
	}
	if got := l.ok("link"); got != "to a: 200mbit, delay 30ms\nto b: unshaped\n" {
		t.Errorf("link shows %q", got)
	}
	l.ok("cut", "a")
	if got := l.echo("a", "b"); got != "timeout" {
		t.Errorf("a cut link with a delay: %s", got)
	}
	l.ok("heal")
	if got := l.echo("a", "b"); got != "ok" {
		t.Errorf("a healed link with a delay: %s", got)
	}
	l.ok("link", "--loss", "100%", "b")
	if got := l.echo("a", "b"); got != "timeout" {
		t.Errorf("a link that loses all: %s", got)
	}
	l.ok("link", "--loss", "30%", "b")
	if share := l.datagrams(1000); share < 0.6 || share > 0.8 {
		t.Errorf("with 30%% loss %.0f%% arrive", 100*share)
	}
	l.ok("link", "--rate", "0")
	if got := rtt(); got > 15 {
		t.Errorf("unshaped again, an answer takes %.1f ms", got)
	}
	if took := l.transfer("a", "b", 64); took > 5*time.Second {
		t.Errorf("64 MiB over an unshaped link took %v", took)
	}
}

// datagrams sends some from a to b and tells which share arrives.
func (l testLab) datagrams(n int) float64 {
	l.t.Helper()
	server := l.command("exec", "b", "--", "python3", "-u", "-c", `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 7002))
print('ready', flush=True)
n = 0
while s.recv(10) != b'end': n += 1
print(n)`)
	out, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	defer server.Wait()
	lines := bufio.NewReader(out)
	lines.ReadString('\n')
	l.ok("exec", "a", "--", "python3", "-c", fmt.Sprintf(`
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(%d): s.sendto(b'x', ('10.99.0.2', 7002)); time.sleep(0.0003)
for i in range(100): s.sendto(b'end', ('10.99.0.2', 7002)); time.sleep(0.001)`, n))
	line, _ := lines.ReadString('\n')
	got, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		l.t.Fatalf("the receiver said %q", line)
	}
	return float64(got) / float64(n)
}

func TestBadShapes(t *testing.T) {
	l := newLab(t, "--hosts", "1")
	for _, args := range [][]string{
		{"--rate", "fast"}, {"--rate", "3parsec"}, {"--rate", "-1mbit"}, {"--delay", "-1ms"}, {"--delay", "1h"}, {"--loss", "200%"}, {"--loss", "x"},
	} {
		if out, _, status := l.try(append([]string{"link"}, args...)...); status != 1 {
			t.Errorf("link %q: status %d, %q", args, status, out)
		}
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]uint64{"": 0, "0": 0, "300mbit": 300e6, "1.5gbit": 1.5e9, "64kbit": 64e3, "8000bit": 8000, "10Gbit": 10e9} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("parseRate(%q) = %d, %v", text, got, err)
		}
		if want != 0 {
			if got, err := parseRate(formatRate(want)); err != nil || got != want {
				t.Errorf("formatRate(%d) = %q", want, formatRate(want))
			}
		}
	}
}

func TestAddresses(t *testing.T) {
	a := addressOf(26)
	if a.Name != "z" || a.Addr != netip.MustParseAddr("10.99.0.26") || a.Addr6 != netip.MustParseAddr("fd99:6869:7468::1a") {
		t.Errorf("host 26 is %+v", a)
	}
}

func TestHide(t *testing.T) {
	l := newLab(t)
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip("no perl here")
	}
	l.ok("hide", "b", perl, "/usr/share/perl")
	l.ok("hide", "b", "/usr/share/doc")
	if _, _, status := l.try("exec", "b", "--", "perl", "-e", "1"); status != 127 {
		t.Errorf("a hidden program: status %d", status)
	}
	if _, _, status := l.try("exec", "b", "--", "ls", "/usr/share/perl"); status == 0 {
		t.Error("a hidden folder is there")
	}
	l.ok("exec", "b", "--", "ls", "/usr/bin/env", "/usr/share")
	l.ok("exec", "a", "--", "perl", "-e", "1")
	if got := l.status().Hosts[1].Hidden; len(got) != 3 {
		t.Errorf("hidden: %q", got)
	}
	// Inside a nested namespace it is hidden too.
	if _, _, status := l.try("exec", "b", "--", "unshare", "-Urm", "ls", perl); status == 0 {
		t.Error("a new mount namespace shows a hidden file")
	}
	l.ok("unhide", "b", perl)
	if got := l.sh("b", "ls /usr/share/perl 2>/dev/null; which perl"); strings.TrimSpace(got) == "" {
		t.Error("an unhidden program is not there")
	}
	l.ok("unhide", "b")
	l.ok("exec", "b", "--", "ls", "/usr/share/perl")
	if got := l.sh("b", "grep -c overlay /proc/self/mountinfo || true"); strings.TrimSpace(got) != l.overlays("a") {
		t.Errorf("overlays are left: %s", got)
	}
	for _, bad := range []string{"relative", "/usr/no/such", "/usr", "/home/lab/.config"} {
		if _, errs, status := l.try("hide", "b", bad); status != 1 {
			t.Errorf("hide %s: status %d %q", bad, status, errs)
		}
	}
}

func (l testLab) overlays(host string) string {
	return strings.TrimSpace(l.sh(host, "grep -c overlay /proc/self/mountinfo || true"))
}

func TestCoverRoots(t *testing.T) {
	got := coverRoots([]string{"/usr/lib/x/libc.so", "/usr/lib/python3", "/usr/bin/vim", "/usr/bin/vi", "/usr/library/x/y"})
	if want := []string{"/usr/bin", "/usr/lib", "/usr/library/x"}; !slices.Equal(got, want) {
		t.Errorf("%q instead of %q", got, want)
	}
}

func TestMovedHost(t *testing.T) {
	l := newLab(t)
	l.echoServer("b")
	l.ok("address", "b", "77")
	for _, to := range []string{"10.99.0.77", "fd99:6869:7468::4d"} {
		if got := l.echo("a", to); got != "ok" {
			t.Errorf("b at %s: %s", to, got)
		}
	}
	if got := l.sh("b", "hostname -I 2>/dev/null || true"); strings.Contains(got, "10.99.0.2 ") {
		t.Errorf("b has its old address too: %s", got)
	}
	l.ok("cut", "--hard", "b")
	l.ok("heal", "b")
	if got := l.echo("a", "10.99.0.77"); got != "ok" {
		t.Errorf("after a cut: %s", got)
	}
	l.ok("address", "b")
	if got := l.echo("a", "10.99.0.2"); got != "ok" {
		t.Errorf("b is back: %s", got)
	}
	if _, errs, status := l.try("address", "b", "1"); status != 1 || !strings.Contains(errs, "27 to 254") {
		t.Errorf("the address of another host: %d %q", status, errs)
	}
}
