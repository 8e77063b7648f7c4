package display

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary stands in for a bridge: it says on its standard output what it is
// told, and behaves as its argument wants.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "bridge" {
		bridgeMain(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

// id is that of the app, as long as what is typed at its windows.
const id = "three"

func bridgeMain(manner string) {
	k, begin, err := OpenKeeper()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(begin.Name, begin.Socket)
	for {
		o, err := k.Next()
		if errors.Is(err, io.EOF) {
			fmt.Println("end")
			if manner == "deaf" {
				select {}
			}
			return
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(o.Op, o.Host)
		switch {
		case o.Op == OpPart && manner == "dies":
			os.Exit(7)
		case o.Op == OpPart && manner == "good":
			k.Parted() //nolint:errcheck // the test waits for it
		case o.Op == OpLeft && manner == "good":
			k.Typed(make([]Stroke, len(begin.ID))) //nolint:errcheck // the same
			return
		case o.Op == OpTyped:
			fmt.Println(len(o.Typed))
		}
	}
}

// bridge starts one and returns a reader of what it says.
func bridge(t *testing.T, manner string) (*Bridge, *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd := exec.Command("/proc/self/exe", "bridge", manner)
	cmd.Stdout = w
	b, err := StartBridge(cmd, Begin{Name: "clock", Socket: "/somewhere", ID: id})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.End(0) })
	in := bufio.NewReader(r)
	says(t, in, "clock /somewhere")
	return b, in
}

func says(t *testing.T, in *bufio.Reader, want string) {
	t.Helper()
	if line, err := in.ReadString('\n'); err != nil || strings.TrimSpace(line) != want {
		t.Fatalf("the bridge says %q (%v), want %q", line, err, want)
	}
}

func TestBridgeObeys(t *testing.T) {
	b, in := bridge(t, "good")
	for range 2 {
		if err := b.Part(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		says(t, in, "part")
		if err := b.Back(); err != nil {
			t.Fatal(err)
		}
		says(t, in, "back")
	}
	if err := b.Typed(make([]Stroke, 2*MaxStrokes)); err != nil { // a peer may say anything
		t.Fatal(err)
	}
	says(t, in, "typed")
	says(t, in, fmt.Sprint(MaxStrokes))
	if list := b.Left("laptop", 10*time.Second); len(list) != len(id) {
		t.Errorf("its last words are %v", list)
	}
	says(t, in, "left laptop")
	<-b.Done()
	if b.Err() != nil {
		t.Error(b.Err())
	}
}

func TestBridgeDies(t *testing.T) {
	b, _ := bridge(t, "dies")
	if err := b.Part(10 * time.Second); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("parting: %v", err)
	}
	<-b.Done()
	if err := b.Back(); err == nil {
		t.Error("a dead bridge was told something")
	}
}

func TestBridgeDeaf(t *testing.T) {
	b, _ := bridge(t, "deaf")
	if err := b.Part(20 * time.Millisecond); err == nil {
		t.Error("a bridge that does not answer has parted")
	}
	select {
	case <-b.Done():
	default:
		t.Error("it lives, and may hold the server")
	}
	b, _ = bridge(t, "deaf")
	b.End(20 * time.Millisecond)
	<-b.Done()
}

// TestHangUp: it returns once the other end is closed, and not before.
func TestHangUp(t *testing.T) {
	pair := func() (*net.UnixConn, *net.UnixConn) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		var ends [2]*net.UnixConn
		for i, fd := range fds {
			f := os.NewFile(uintptr(fd), "end")
			c, err := net.FileConn(f)
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			ends[i] = c.(*net.UnixConn)
			t.Cleanup(func() { c.Close() })
		}
		return ends[0], ends[1]
	}
	mine, server := pair()
	closed := make(chan time.Time, 1)
	go func() {
		server.Write(bytes.Repeat([]byte("event"), 10000)) //nolint:errcheck // read away
		io.Copy(io.Discard, server)                        //nolint:errcheck // until its end
		closed <- time.Now()
		server.Close()
	}()
	if err := HangUp(mine, 10*time.Second); err != nil {
		t.Error(err)
	}
	select {
	case <-closed:
	default:
		t.Error("the server has not closed its end")
	}
	mine, _ = pair()
	if err := HangUp(mine, 10*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a server that does not hear: %v", err)
	}
}

// TestDamagedOrders: a bridge takes nothing but orders.
func TestDamagedOrders(t *testing.T) {
	for _, text := range []string{"\n", "{}x\n", "[1]\n", strings.Repeat("x", maxOrder+1) + "\n"} {
		k := &Keeper{in: bufio.NewReaderSize(strings.NewReader(text), maxOrder)}
		if o, err := k.Next(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%.20q: %+v, %v", text, o, err)
		}
	}
	for _, text := range []string{"", `{"op":"part"`} { // the keeper died
		k := &Keeper{in: bufio.NewReaderSize(strings.NewReader(text), maxOrder)}
		if o, err := k.Next(); err == nil || (text == "") != (err == io.EOF) {
			t.Errorf("%q: %+v, %v", text, o, err)
		}
	}
	b, err := json.Marshal(Order{Op: OpBegin, Begin: &Begin{Name: "\n"}})
	if err != nil || bytes.ContainsRune(b, '\n') {
		t.Errorf("an order of more than a line: %q, %v", b, err)
	}
}

// TestListen: a server that takes the socket late serves who called before.
func TestListen(t *testing.T) {
	s := Bus(t.TempDir())
	fd, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if st, err := os.Stat(s.Path); err != nil || st.Mode() != os.ModeSocket|0o666 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	c, err := net.Dial("unix", s.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	buf := make([]byte, 5)
	if _, err := io.ReadFull(in, buf); err != nil || string(buf) != "hello" {
		t.Errorf("%q, %v", buf, err)
	}
	if _, err := s.Listen(); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second time: %v", err)
	}
}

func TestEnv(t *testing.T) {
	for _, kv := range Env("/run/user/7") {
		name, _, _ := strings.Cut(kv, "=")
		if !slices.Contains(HostEnv, name) {
			t.Errorf("the host's %s would stand beside the capsule's", name)
		}
	}
	if !slices.Contains(Env("/run/user/7"), "DBUS_SESSION_BUS_ADDRESS=unix:path="+Services("/run/user/7")[1].Path) {
		t.Error("apps look for the bus elsewhere than it listens")
	}
}
