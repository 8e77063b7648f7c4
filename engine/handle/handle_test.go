//go:build linux && amd64

package handle

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/tracee"
)

func startScript(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready")
	cmd := exec.Command("python3", append([]string{script, ready}, args...)...)
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, log, log
	if err := cmd.Start(); err != nil {
		t.Skip("python3: ", err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 4000 {
		if text, _ := os.ReadFile(ready); string(text) == "READY" {
			return cmd
		}
		time.Sleep(5 * time.Millisecond)
	}
	text, _ := os.ReadFile(filepath.Join(dir, "log"))
	t.Fatalf("%s does not get ready:\n%s", script, text)
	return nil
}

func suspend(t *testing.T, pid int) {
	t.Helper()
	unix.Kill(pid, unix.SIGSTOP)
	for range 2000 {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, rest, ok := strings.Cut(string(text), ") "); ok && strings.HasPrefix(rest, "T") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("process %d does not stop", pid)
}

func TestRefusals(t *testing.T) {
	cmd := startScript(t, "testdata/refused.py")
	pid := cmd.Process.Pid
	procs := []Proc{{Pid: pid, Inner: 7}}
	outside := Survey(procs, pid)
	want := map[int]string{40: "netlink", 41: "namespace", 42: "io_uring", 44: "a pipe into which a process outside the capsule writes", 45: "netlink"}
	for fd, word := range want {
		if !slices.ContainsFunc(outside, func(p Problem) bool {
			return p.FD == fd && p.Pid == 7 && strings.Contains(p.What, word) && p.Cure != "" && strings.HasPrefix(p.Comm, "python3")
		}) {
			t.Errorf("the survey does not name descriptor %d: %v", fd, outside)
		}
	}
	if len(outside) != len(want) {
		t.Errorf("the survey names more: %v", outside)
	}
	suspend(t, pid)
	_, err := Capture(Input{Procs: procs, InitPid: pid, Inodes: NewInodes(), Diag: -1})
	var refused Refused
	if !errors.As(err, &refused) {
		t.Fatalf("captured, with %v", err)
	}
	want[43] = "a connection to"
	for fd, word := range want {
		if !slices.ContainsFunc(refused, func(p Problem) bool { return p.FD == fd && strings.Contains(p.What, word) && p.Cure != "" }) {
			t.Errorf("the capture does not refuse descriptor %d: %v", fd, refused)
		}
	}
	if len(refused) != len(want) {
		t.Errorf("the capture refuses more: %v", refused)
	}
}

// TestSharing: descriptions shared by fork, dup and a portal are one handle,
// equal but separate ones are not.
func TestSharing(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "share.py")
	err := os.WriteFile(script, []byte(`
import os, sys, time
os.closerange(3, 256)
f = os.open(sys.argv[1] + ".data", os.O_RDWR | os.O_CREAT)
os.dup2(f, 10); os.dup2(f, 11)
os.dup2(os.open(sys.argv[1] + ".data", os.O_RDWR), 12)
for n in range(20, 60):
    os.dup2(os.eventfd(0), n)
pid = os.fork()
if pid == 0:
    os.dup2(os.eventfd(0), 60)
else:
    open(sys.argv[1] + ".child", "w").write(str(pid))
    open(sys.argv[1], "w").write("READY")
for _ in range(600):
    time.sleep(0.1)
    if os.getppid() == 1: break
`), 0600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := startScript(t, script)
	var child int
	ready := cmd.Args[2]
	text, err := os.ReadFile(ready + ".child")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Sscan(string(text), &child)
	t.Cleanup(func() { unix.Kill(child, unix.SIGKILL) })
	for range 1000 { // its own eventfd
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/60", child)); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	pid := cmd.Process.Pid
	suspend(t, pid)
	suspend(t, child)
	got, err := Capture(Input{Procs: []Proc{{Pid: pid, Inner: 2}, {Pid: child, Inner: 3}}, InitPid: pid, Portals: []int{11}, Inodes: NewInodes(), Diag: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	handle := func(pid, fd int) uint32 {
		for _, d := range got.Tables[pid] {
			if d.FD == fd {
				return d.Handle
			}
		}
		t.Fatalf("process %d has no descriptor %d", pid, fd)
		return 0
	}
	if handle(2, 10) != handle(2, 11) || handle(2, 10) != handle(3, 10) || got.Portals[0].Handle != handle(2, 10) || got.Portals[0].FD != 11 {
		t.Error("one description became several handles")
	}
	if handle(2, 10) == handle(2, 12) || handle(2, 12) != handle(3, 12) {
		t.Error("two descriptions of a file became one handle")
	}
	ids := map[uint32]bool{}
	for fd := 20; fd < 60; fd++ {
		ids[handle(2, fd)] = true
		if handle(2, fd) != handle(3, fd) {
			t.Errorf("descriptor %d is not shared", fd)
		}
	}
	ids[handle(3, 60)] = true
	if len(ids) != 41 {
		t.Errorf("41 eventfds became %d handles", len(ids))
	}
}

func TestParsing(t *testing.T) {
	f := parseFdinfo([]byte("pos:\t12\nflags:\t02100002\nmnt_id:\t29\nlock:\t1: POSIX  ADVISORY  WRITE 123 00:1a:42 100 109\nlock:\t2: FLOCK  ADVISORY  READ 1 00:1a:42 0 EOF\n"))
	if f.pos != 12 || f.flags != 0o2100002 || f.mount != 29 {
		t.Errorf("%+v", f)
	}
	locks, err := f.locks()
	if err != nil || len(locks) != 2 || locks[0] != (fdLock{"POSIX", true, 100, 10}) || locks[1] != (fdLock{"FLOCK", false, 0, 0}) {
		t.Errorf("%+v %v", locks, err)
	}
	e, ino, dev, err := parseEpollLine("       34 events: 80000019 data: ffffffffffffffff  pos:0 ino:2f sdev:d")
	if err != nil || e.FD != 34 || e.Events != 0x80000019 || e.Data != ^uint64(0) || ino != 0x2f || dev != 13 {
		t.Errorf("%+v %d %d %v", e, ino, dev, err)
	}
	w, key, ok, err := parseWatch("inotify wd:3 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8")
	if err != nil || !ok || w.WD != 3 || key.ino != 0x9e7e || key.dev != unix.Mkdev(8, 19) {
		t.Errorf("%+v %+v %v", w, key, err)
	}
	if a := procAddress("0100007F:1F90"); a.String() != "127.0.0.1:8080" {
		t.Error(a)
	}
	if a := procAddress("00000000000000000000000001000000:0050"); a.String() != "[::1]:80" {
		t.Error(a)
	}
}

// TestLockConflict: what is locked on this host cannot be locked again, and
// the error says so.
func TestLockConflict(t *testing.T) {
	path := filepath.Join(t.TempDir(), "locked")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	data, _ := cbor.Marshal(&fileRecord{File: 1})
	app := &image.App{Handles: []image.Handle{{ID: 1, Kind: kindFile, Flags: unix.O_RDWR, Data: data}},
		Files: []image.File{{ID: 1, Kind: image.FilePath, Path: path}},
		Locks: []image.Lock{{Kind: image.LockFlock, Write: true, Handle: 1}}}
	err = inSleeper(t, func(r Remote, pid int) error {
		_, err := Rebind(r, app, Env{Pid: pid})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "has locked it") {
		t.Error(err)
	}
}

// inSleeper runs fn on a stopped process that does nothing else.
func inSleeper(t *testing.T, fn func(r Remote, pid int) error) error {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	tr := tracee.New()
	defer tr.Close()
	return tr.Do(func() error {
		p, err := tr.Seize(cmd.Process.Pid)
		if err != nil {
			return err
		}
		defer tr.Detach(p)
		if err := p.Prepare(0); err != nil {
			return err
		}
		return fn(On(p.Leader()), p.Pid)
	})
}

// TestRebindOfNonsense: images that are well-formed and make no sense end in
// errors.
func TestRebindOfNonsense(t *testing.T) {
	rec := func(v any) []byte {
		data, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	u := func(id uint32, r unixRecord) image.Handle {
		r.Type = unix.SOCK_STREAM
		return image.Handle{ID: id, Kind: kindUnix, Flags: unix.O_RDWR, Data: rec(r)}
	}
	for name, handles := range map[string][]image.Handle{
		"own peer":       {u(1, unixRecord{Peer: 1})},
		"one-sided peer": {u(1, unixRecord{Peer: 2}), u(2, unixRecord{})},
		"three in a pair": {u(1, unixRecord{Peer: 2}), u(2, unixRecord{Peer: 3}),
			u(3, unixRecord{Peer: 1})},
		"queue of nobody":   {u(1, unixRecord{Queue: []unixMessage{{Data: []byte("x")}}})},
		"calls a stranger":  {u(1, unixRecord{Name: []byte("\x00nonsense"), Listens: true, Pending: []uint32{1}})},
		"pipe without size": {{ID: 1, Kind: kindPipe, Data: rec(pipeRecord{Pipe: 1})}},
		"packets too many": {{ID: 1, Kind: kindPipe, Data: rec(pipeRecord{Pipe: 1, Size: 4096, Content: []byte("ab"),
			Packets: []int{1, 2}})}},
		"terminal twice": {{ID: 1, Kind: kindMaster, Data: rec(masterRecord{Termios: make([]byte, termiosSize)})},
			{ID: 2, Kind: kindMaster, Data: rec(masterRecord{Termios: make([]byte, termiosSize)})}},
		"unknown kind": {{ID: 1, Kind: "novel", Data: rec(struct{}{})}},
		"no record":    {{ID: 1, Kind: kindPipe}},
	} {
		app := &image.App{Handles: handles}
		err := inSleeper(t, func(r Remote, pid int) error {
			_, err := Rebind(r, app, Env{Pid: pid})
			return err
		})
		if err == nil {
			t.Errorf("%s: rebuilt", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, k := range kinds {
		data, err := cbor.Marshal(k.blank())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(k.name, data)
	}
	refs := newReferences(&image.App{Handles: []image.Handle{{ID: 1, Kind: kindUnix}, {ID: 2, Kind: kindPipe}},
		Files: []image.File{{ID: 1, Kind: image.FilePath, Path: "/x"}}, Shared: []image.SharedMemory{{ID: 1}}})
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		e, err := decode(&image.Handle{ID: 1, Kind: name, Data: data}, refs)
		if err != nil {
			return
		}
		if _, err := cbor.Marshal(e.rec); err != nil {
			t.Error(err)
		}
	})
}

func FuzzUnixDiag(f *testing.F) {
	if fd, err := ownDiag(); err == nil {
		if rows, err := unixTable(fd); err != nil || len(rows) == 0 {
			f.Log(len(rows), err)
		}
		unix.Close(fd)
	}
	f.Add(make([]byte, 64))
	f.Fuzz(func(_ *testing.T, data []byte) { parseUnixDiag(data, map[uint64]*unixRow{}) })
}

func FuzzFdinfo(f *testing.F) {
	f.Add([]byte("pos:\t0\nflags:\t02\ntfd: 5 events: 19 data: 5 pos:0 ino:f sdev:d\nlock:\t1: POSIX ADVISORY WRITE 1 0:0:0 0 EOF\n"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		info := parseFdinfo(data)
		info.locks()
		for _, line := range info.lines {
			parseEpollLine(line)
			parseWatch(line)
		}
		procAddress(string(data))
	})
}
