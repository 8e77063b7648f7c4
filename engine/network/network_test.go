package network

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests have a child in namespaces of its own, which opens the network and
// then dials what it is told to. It hands the sockets over, so that the test
// itself holds both ends of every connection.

const childEnv = "HITHER_NETWORK_TEST_CHILD"

func TestMain(m *testing.M) {
	if kind := os.Getenv(childEnv); kind != "" {
		child(kind)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(kind string) {
	conn := os.NewFile(3, "parent")
	link, err := net.FileConn(conn)
	if err != nil {
		panic(err)
	}
	u := link.(*net.UnixConn)
	answer := func(fd int, text string) {
		var rights []byte
		if fd >= 0 {
			rights = unix.UnixRights(fd)
		}
		u.WriteMsgUnix([]byte(text), rights, nil)
	}
	fd, got, err := open(kind == Packet)
	if err != nil {
		answer(-1, "!"+err.Error())
		return
	}
	answer(fd, got)
	unix.Close(fd)
	buf := make([]byte, 1000)
	for {
		n, err := u.Read(buf)
		if err != nil {
			return
		}
		network, addr, _ := strings.Cut(string(buf[:n]), " ")
		if network == "run" {
			out, err := exec.Command("sh", "-c", addr).CombinedOutput()
			answer(-1, fmt.Sprintf("%s %v", out, err))
			continue
		}
		go func() { // dials may take their time
			c, err := net.DialTimeout(network, addr, 5*time.Second)
			if err != nil {
				var errno syscall.Errno
				if errors.As(err, &errno) {
					answer(-1, fmt.Sprintf("!%d", int(errno)))
				} else {
					answer(-1, "!"+err.Error())
				}
				return
			}
			f, _ := c.(interface{ File() (*os.File, error) }).File()
			c.Close()
			answer(int(f.Fd()), c.LocalAddr().String())
			f.Close()
		}()
	}
}

// capsule is a child and its gateway.
type capsule struct {
	t    testing.TB
	link *net.UnixConn
	mu   sync.Mutex
	fd   int
	kind string
	stop func()
}

func newCapsule(t testing.TB, kind string, host Host) *capsule {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+kind)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
	theirs.Close()
	link, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	c := &capsule{t: t, link: link.(*net.UnixConn)}
	t.Cleanup(func() {
		if c.stop != nil {
			c.stop()
		}
		if c.fd > 0 {
			unix.Close(c.fd)
		}
		c.link.Close()
		cmd.Wait()
	})
	f, text, err := c.receive()
	if err != nil {
		t.Fatal(err)
	}
	if f == nil {
		t.Fatal(text)
	}
	c.fd, _ = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	f.Close()
	c.kind = text
	if kind == TUN && text != TUN {
		t.Skip("/dev/net/tun is closed here")
	}
	c.run(host)
	return c
}

// run starts the gateway.
func (c *capsule) run(host Host) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- host.Run(ctx, c.fd, c.kind) }()
	c.stop = func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				c.t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			c.t.Error("Run does not end")
		}
		c.stop = nil
	}
}

func (c *capsule) receive() (*os.File, string, error) {
	text, oob := make([]byte, 64<<10), make([]byte, 100)
	n, on, _, _, err := c.link.ReadMsgUnix(text, oob)
	if err != nil {
		return nil, "", err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil || len(messages) == 0 {
		return nil, string(text[:n]), err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, "", err
	}
	return os.NewFile(uintptr(fds[0]), "child"), string(text[:n]), nil
}

// ask sends an order to the child.
func (c *capsule) ask(order string) (*os.File, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.link.Write([]byte(order)); err != nil {
		return nil, "", err
	}
	return c.receive()
}

// dial connects from inside the capsule.
func (c *capsule) dial(network, addr string) (net.Conn, error) {
	f, text, err := c.ask(network + " " + addr)
	if err != nil {
		return nil, err
	}
	if f == nil {
		var errno int
		if _, err := fmt.Sscanf(text, "!%d", &errno); err == nil {
			return nil, syscall.Errno(errno)
		}
		return nil, errors.New(text)
	}
	defer f.Close()
	conn, err := net.FileConn(f)
	if err == nil {
		conn.SetDeadline(time.Now().Add(30 * time.Second))
	}
	return conn, err
}

func (c *capsule) mustDial(network, addr string) net.Conn {
	c.t.Helper()
	conn, err := c.dial(network, addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// onBoth runs a test over a TUN device and over a packet socket.
func onBoth(t *testing.T, test func(t *testing.T, c *capsule)) {
	for _, kind := range []string{TUN, Packet} {
		t.Run(kind, func(t *testing.T) { test(t, newCapsule(t, kind, Host{NameServers: []netip.AddrPort{}})) })
	}
}

// serve listens on the host's loopback and returns the port.
func serve(t testing.TB, addr string, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Skipf("no %s here: %v", addr, err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go handle(conn)
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func echo(conn net.Conn) {
	defer conn.Close()
	io.Copy(conn, conn)
}

func at(gateway netip.Addr, port string) string { return net.JoinHostPort(gateway.String(), port) }

func TestTCP(t *testing.T) {
	onBoth(t, func(t *testing.T, c *capsule) {
		for _, host := range []struct {
			addr    string
			gateway netip.Addr
		}{{"127.0.0.1", Gateway4}, {"::1", Gateway6}} {
			t.Run(host.addr, func(t *testing.T) {
				port := serve(t, host.addr, echo)
				conn := c.mustDial("tcp", at(host.gateway, port))
				const size = 20 << 20 // many windows
				sent, got := sha256.New(), sha256.New()
				done := make(chan error, 1)
				go func() {
					_, err := io.CopyN(io.MultiWriter(conn, sent), rand.Reader, size)
					conn.(*net.TCPConn).CloseWrite()
					done <- err
				}()
				n, err := io.Copy(got, conn)
				if err != nil || n != size {
					t.Fatalf("got %d bytes back: %v", n, err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
					t.Error("what came back differs")
				}
			})
		}
	})
}

// TestHalfClose: each direction ends by itself.
func TestHalfClose(t *testing.T) {
	onBoth(t, func(t *testing.T, c *capsule) {
		// The server answers only after the end of the question.
		port := serve(t, "127.0.0.1", func(conn net.Conn) {
			defer conn.Close()
			b, _ := io.ReadAll(conn)
			fmt.Fprintf(conn, "you said %s", b)
		})
		conn := c.mustDial("tcp", at(Gateway4, port)).(*net.TCPConn)
		conn.Write([]byte("hello"))
		conn.CloseWrite()
		if b, err := io.ReadAll(conn); string(b) != "you said hello" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		// The server ends first, and goes on reading.
		got := make(chan string, 1)
		port = serve(t, "127.0.0.1", func(conn net.Conn) {
			defer conn.Close()
			conn.Write([]byte("bye"))
			conn.(*net.TCPConn).CloseWrite()
			b, _ := io.ReadAll(conn)
			got <- string(b)
		})
		conn = c.mustDial("tcp", at(Gateway4, port)).(*net.TCPConn)
		if b, err := io.ReadAll(conn); string(b) != "bye" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		conn.Write([]byte("still here"))
		conn.CloseWrite()
		select {
		case b := <-got:
			if b != "still here" {
				t.Errorf("the server got %q", b)
			}
		case <-time.After(10 * time.Second):
			t.Error("the server waits in vain")
		}
	})
}

func TestReset(t *testing.T) {
	onBoth(t, func(t *testing.T, c *capsule) {
		// By the server.
		port := serve(t, "127.0.0.1", func(conn net.Conn) {
			conn.Read(make([]byte, 1))
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		})
		conn := c.mustDial("tcp", at(Gateway4, port))
		conn.Write([]byte("x"))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a server's reset reads as %v", err)
		}
		// By the app.
		result := make(chan error, 1)
		port = serve(t, "127.0.0.1", func(conn net.Conn) {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			conn.Write([]byte("x"))
			_, err := conn.Read(make([]byte, 1))
			result <- err
		})
		conn = c.mustDial("tcp", at(Gateway4, port))
		conn.Read(make([]byte, 1))
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
		if err := <-result; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("an app's reset reads as %v", err)
		}
	})
}

func TestRefusal(t *testing.T) {
	onBoth(t, func(t *testing.T, c *capsule) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		l.Close()
		begin := time.Now()
		if _, err := c.dial("tcp", at(Gateway4, port)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a closed port: %v", err)
		}
		for addr, want := range map[string]error{
			"10.113.0.77:80":     syscall.EHOSTUNREACH, // nobody's
			"[fd68:6974::77]:80": syscall.EHOSTUNREACH,
		} {
			if _, err := c.dial("tcp", addr); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", addr, err, want)
			}
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("refusals took %v", took)
		}
	})
}

func serveUDP(t testing.TB, addr string, handle func(pc net.PacketConn, from net.Addr, b []byte)) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Skipf("no %s here: %v", addr, err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			handle(pc, from, buf[:n])
		}
	}()
	_, port, _ := net.SplitHostPort(pc.LocalAddr().String())
	return port
}

func TestUDP(t *testing.T) {
	onBoth(t, func(t *testing.T, c *capsule) {
		for _, host := range []struct {
			addr    string
			gateway netip.Addr
		}{{"127.0.0.1", Gateway4}, {"::1", Gateway6}} {
			t.Run(host.addr, func(t *testing.T) {
				port := serveUDP(t, host.addr, func(pc net.PacketConn, from net.Addr, b []byte) { pc.WriteTo(b, from) })
				conn := c.mustDial("udp", at(host.gateway, port))
				buf := make([]byte, 1<<16)
				for _, size := range []int{0, 1, 100, 1472, 9000, 65000, 65507} {
					b := make([]byte, size)
					rand.Read(b)
					if _, err := conn.Write(b); err != nil {
						t.Fatal(err)
					}
					n, err := conn.Read(buf)
					if err != nil || !bytes.Equal(buf[:n], b) {
						t.Errorf("%d bytes came back as %d: %v", size, n, err)
					}
				}
			})
		}
		// A port where nobody listens.
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(pc.LocalAddr().String())
		pc.Close()
		for _, to := range []string{at(Gateway4, port), at(Gateway6, port)} {
			conn := c.mustDial("udp", to)
			conn.Write([]byte("x"))
			_, err := conn.Read(make([]byte, 1))
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: %v", to, err)
			}
		}
	})
}

func TestMany(t *testing.T) {
	onBoth(t, func(t *testing.T, c *capsule) {
		port := serve(t, "127.0.0.1", echo)
		conns := make([]net.Conn, 200)
		for i := range conns {
			conns[i] = c.mustDial("tcp", at(Gateway4, port))
		}
		var all sync.WaitGroup
		for i, conn := range conns {
			all.Go(func() {
				b := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 50_000)
				go conn.Write(b)
				got := make([]byte, len(b))
				if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, b) {
					t.Errorf("connection %d: %v", i, err)
				}
			})
		}
		all.Wait()
	})
}

func TestInside(t *testing.T) {
	onBoth(t, func(t *testing.T, c *capsule) {
		_, text, err := c.ask("run cat /sys/class/net/hither0/mtu; ip -br addr 2>/dev/null; ping -c1 -W2 10.113.0.1; ping -c1 -W1 10.113.0.5")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text, fmt.Sprint(MTU)) && !strings.Contains(text, "No such file") {
			t.Errorf("no MTU of %d: %s", MTU, text)
		}
		if strings.Contains(text, "from 10.113.0.5") {
			t.Errorf("somebody answers for 10.113.0.5: %s", text)
		}
	})
}

// TestTakeOver: another keeper takes the descriptor over.
func TestTakeOver(t *testing.T) {
	onBoth(t, func(t *testing.T, c *capsule) {
		port := serve(t, "127.0.0.1", echo)
		old := c.mustDial("tcp", at(Gateway4, port))
		old.Write([]byte("x"))
		old.Read(make([]byte, 1))
		c.stop()
		c.run(Host{})
		conn := c.mustDial("tcp", at(Gateway4, port))
		conn.Write([]byte("y"))
		b := make([]byte, 1)
		if _, err := conn.Read(b); err != nil || b[0] != 'y' {
			t.Errorf("%q, %v", b, err)
		}
		// The app learns that the old connection is gone.
		old.Write([]byte("x"))
		if _, err := old.Read(b); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a lost connection reads as %v", err)
		}
	})
}

// question is a DNS query of that ID; the test's servers answer with what they
// got and their name.
func question(id uint16) []byte {
	return append(binary.BigEndian.AppendUint16(nil, id), "\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04test\x00\x00\x01\x00\x01"...)
}

func TestDNS(t *testing.T) {
	answer := func(name string) func(net.PacketConn, net.Addr, []byte) {
		return func(pc net.PacketConn, from net.Addr, b []byte) {
			b[2] |= 0x80 // an answer
			pc.WriteTo(append(b, name...), from)
		}
	}
	portOf := func(p string) netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:" + p) }
	first := portOf(serveUDP(t, "127.0.0.1", answer("first")))
	// A server that listens to nobody, then one that answers, also by TCP.
	dead := func() netip.AddrPort {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		return netip.MustParseAddrPort(pc.LocalAddr().String())
	}()
	tcpPort := portOf(serve(t, "127.0.0.1", echo))
	for _, kind := range []string{TUN, Packet} {
		t.Run(kind, func(t *testing.T) {
			c := newCapsule(t, kind, Host{NameServers: []netip.AddrPort{dead, first}})
			for _, gateway := range []netip.Addr{Gateway4, Gateway6} {
				conn := c.mustDial("udp", at(gateway, "53"))
				for id := range uint16(50) { // many at once
					if _, err := conn.Write(question(id)); err != nil {
						t.Fatal(err)
					}
				}
				seen := make(map[uint16]bool)
				buf := make([]byte, 600)
				for len(seen) < 50 {
					n, err := conn.Read(buf)
					if err != nil {
						t.Fatalf("after %d answers: %v", len(seen), err)
					}
					id := binary.BigEndian.Uint16(buf)
					want := append(question(id), "first"...)
					want[2] |= 0x80
					if !bytes.Equal(buf[:n], want) {
						t.Errorf("answer %q", buf[:n])
					}
					seen[id] = true
				}
			}
			over := newCapsule(t, kind, Host{NameServers: []netip.AddrPort{dead, tcpPort}})
			conn := over.mustDial("tcp", at(Gateway4, "53"))
			conn.Write([]byte("\x00\x02ab"))
			b := make([]byte, 4)
			if _, err := io.ReadFull(conn, b); err != nil || string(b) != "\x00\x02ab" {
				t.Errorf("by TCP: %q, %v", b, err)
			}
		})
	}
}

func TestResolvConf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	h := Host{ResolvConf: file}
	var n names
	n.init(h)
	if got := fmt.Sprint(n.servers()); got != "[127.0.0.1:53]" {
		t.Errorf("without a file: %s", got)
	}
	write("# comment\nnameserver 192.0.2.1\nsearch a.example b.example\nnameserver fe80::1%eth0\nnameserver bad\noptions edns0\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n")
	if got := fmt.Sprint(n.servers()); got != "[192.0.2.1:53 [fe80::1%eth0]:53 192.0.2.3:53]" {
		t.Errorf("read %s", got)
	}
	conf := string(h.resolvConf())
	for _, want := range []string{"nameserver 10.113.0.1\n", "search a.example b.example\n", "options edns0\n"} {
		if !strings.Contains(conf, want) {
			t.Errorf("no %q in %q", want, conf)
		}
	}
	if strings.Contains(conf, "192.0.2.1") {
		t.Error("the capsule is told the host's name servers")
	}
	write("nameserver 192.0.2.9\n")
	if got := fmt.Sprint(n.servers()); got != "[192.0.2.9:53]" {
		t.Errorf("after a change: %s", got)
	}
}

// FuzzAdmit: whatever the capsule sends, the gateway looks at it unharmed.
func FuzzAdmit(f *testing.F) {
	f.Add([]byte{0x45})
	f.Add(bytes.Repeat([]byte{0x60}, 40))
	f.Fuzz(func(t *testing.T, b []byte) { admit(b) })
}

func BenchmarkTCP(b *testing.B) {
	for _, kind := range []string{TUN, Packet} {
		b.Run(kind, func(b *testing.B) {
			c := newCapsule(b, kind, Host{})
			chunk := make([]byte, 1<<20)
			b.Run("up", func(b *testing.B) {
				port := serve(b, "127.0.0.1", func(conn net.Conn) {
					defer conn.Close()
					io.Copy(io.Discard, conn)
				})
				conn := c.mustDial("tcp", at(Gateway4, port)).(*net.TCPConn)
				b.SetBytes(int64(len(chunk)))
				for b.Loop() {
					conn.Write(chunk)
				}
				conn.CloseWrite()
				io.Copy(io.Discard, conn)
			})
			b.Run("down", func(b *testing.B) {
				port := serve(b, "127.0.0.1", func(conn net.Conn) {
					defer conn.Close()
					for {
						if _, err := conn.Write(chunk); err != nil {
							return
						}
					}
				})
				conn := c.mustDial("tcp", at(Gateway4, port))
				b.SetBytes(int64(len(chunk)))
				for b.Loop() {
					io.ReadFull(conn, chunk)
				}
			})
			b.Run("ping", func(b *testing.B) {
				port := serve(b, "127.0.0.1", echo)
				conn := c.mustDial("tcp", at(Gateway4, port))
				one := make([]byte, 1)
				for b.Loop() {
					conn.Write(one)
					conn.Read(one)
				}
			})
		})
	}
}

// TestIdle: a network that nobody uses costs nothing.
func TestIdle(t *testing.T) {
	onBoth(t, func(t *testing.T, c *capsule) {
		port := serve(t, "127.0.0.1", echo)
		conn := c.mustDial("tcp", at(Gateway4, port))
		conn.Write([]byte("x"))
		conn.Read(make([]byte, 1))
		time.Sleep(time.Second) // delayed acknowledgements
		before := switches(t)
		time.Sleep(4 * time.Second)
		// Go's monitor takes some dozens of naps before it rests, too.
		if n := switches(t) - before; n > 150 {
			t.Errorf("%d wake-ups in 4 s of rest", n)
		}
	})
}

// switches counts how often this process has gone to sleep.
func switches(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, _ := os.ReadFile(file)
		for _, line := range strings.Split(string(b), "\n") {
			if rest, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				k := 0
				fmt.Sscan(rest, &k)
				n += k
			}
		}
	}
	return n
}
