package xwire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// FuzzReply decodes any bytes as each kind of reply.
func FuzzReply(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Add(bytes.Repeat([]byte{1, 0, 0, 0}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, decode := range allReplies {
			d := &decoder{b: b}
			decode(d)
			if d.off > len(b) {
				t.Fatal("read beyond the end")
			}
		}
		_, _ = convertTypes(b, 255)
	})
}

// fuzzTables have all extensions, each with three event numbers and its own
// request number.
func fuzzTables() *tables {
	t := coreTables()
	for i, ext := range allExtensions {
		t = t.with(ext, place{major: uint8(128 + i), firstEvent: uint8(64 + 3*i), firstError: uint8(128 + 3*i)})
	}
	return t
}

// FuzzEvent decodes any bytes as an event.
func FuzzEvent(f *testing.F) {
	tables := fuzzTables()
	for number := range 128 {
		f.Add(append([]byte{byte(number)}, make([]byte, 31)...))
	}
	for i := range allExtensions {
		for number := range 30 {
			b := make([]byte, 128)
			b[0], b[1], b[8] = genericEvent, byte(128+i), byte(number)
			b[20] = 0xff
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < messageSize {
			return
		}
		if ev := tables.decode(b, EventHeader{Sequence: 7}); ev == nil || ev.Header().Sequence != 7 {
			t.Fatalf("event %v", ev)
		}
		if err := tables.parseError(b, 7); err.Error() == "" || err.Sequence != 7 {
			t.Fatalf("error %v", err)
		}
	})
}

// FuzzSetup decodes any bytes as what a server says of itself.
func FuzzSetup(f *testing.F) {
	f.Add(fakeSetup())
	f.Add([]byte{0, 3, 11, 0, 0, 0, 1, 0, 'n', 'o', '!', 0})
	f.Add([]byte{2, 0, 11, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 8 {
			return
		}
		_ = new(Conn).readSetup(b)
	})
}

func FuzzAuthority(f *testing.F) {
	f.Add(authorityFile(authEntry{family: familyLocal, address: "here", number: "0", name: cookieName, data: make([]byte, 16)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, _ := parseAuthority(b)
		_ = chooseAuth(entries, "here", 0)
	})
}

// FuzzServer lets any bytes be what a server sends after the setup.
func FuzzServer(f *testing.F) {
	f.Add([]byte{})
	f.Add(fakeReply(2, 0))
	f.Add(append(fakeReply(2, 0), fakeReply(3, 2)...))
	f.Add(append(fakeReply(2, 1<<30), 0, 0))
	f.Add(append([]byte{genericEvent, 128, 3, 0, 255, 255, 255, 255}, make([]byte, 24)...))
	f.Add(append([]byte{0, 3, 3, 0}, make([]byte, 28)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c := fakeServer(t, func(conn net.Conn) { _, _ = conn.Write(b) })
		defer c.Close()
		geometry := c.GetGeometryAsync(1)
		tree := c.QueryTreeAsync(1)
		_, e1 := geometry.WaitContext(ctx)
		_, e2 := tree.WaitContext(ctx)
		for {
			if _, err := c.NextEvent(ctx); err != nil {
				if ctx.Err() != nil {
					t.Fatal("the connection did not end")
				}
				break
			}
		}
		if e1 == nil && e2 == nil && len(b) < 64 {
			t.Error("two replies in one")
		}
	})
}

// fakeServer gives a connection to a server that refuses all extensions, does
// f, and closes the connection.
func fakeServer(t testing.TB, f func(net.Conn)) *Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		if _, err := io.ReadFull(theirs, make([]byte, 12)); err != nil {
			return
		}
		_, _ = theirs.Write(fakeSetup())
		_, _ = io.ReadFull(theirs, make([]byte, 20)) // QueryExtension BIG-REQUESTS
		_, _ = theirs.Write(fakeReply(1, 0))
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		f(theirs)
	}()
	c, err := NewConn(context.Background(), ours, Auth{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func fakeReply(seq uint16, words uint32) []byte {
	b := make([]byte, 32, 32+4*min(words, 100))
	b[0] = 1
	binary.LittleEndian.PutUint16(b[2:], seq)
	binary.LittleEndian.PutUint32(b[4:], words)
	return b[:cap(b)]
}

func fakeSetup() []byte {
	e := &encoder{}
	e.bytes([]byte{1, 0, 11, 0, 0, 0, 18, 0})
	e.u32(1)
	e.u32(0x200000)
	e.u32(0x1fffff)
	e.u32(256)
	e.u16(0)
	e.u16(0xffff)
	e.bytes([]byte{1, 0, 0, 0, 32, 32, 8, 255})
	e.pad(4)
	e.u32(1) // the root
	e.pad(36)
	return e.b
}

// What a server must not do, and what comes of it.
func TestHostileServer(t *testing.T) {
	event := append([]byte{uint8(22), 0, 1, 0}, make([]byte, 28)...)
	for name, test := range map[string]struct {
		sends func(net.Conn)
		want  string
	}{
		"a reply to nothing": {func(c net.Conn) { c.Write(fakeReply(1, 0)) }, "the X server answered request 1, which asked nothing"},
		"a huge event": {func(c net.Conn) {
			c.Write(append([]byte{genericEvent, 1, 1, 0, 0, 0, 0, 1}, make([]byte, 24)...))
		}, "the X server announces an event of 67108864 bytes"},
		"a flood of events": {func(c net.Conn) {
			many := bytes.Repeat(event, 1000)
			for {
				if _, err := c.Write(many); err != nil {
					return
				}
			}
		}, "419430 events of the X server were not taken"},
	} {
		t.Run(name, func(t *testing.T) {
			c := fakeServer(t, test.sends)
			defer c.Close()
			<-c.Done()
			if err := c.Err(); err == nil || err.Error() != test.want {
				t.Errorf("%v, wanted %s", err, test.want)
			}
		})
	}
	asked := make(chan struct{})
	c := fakeServer(t, func(conn net.Conn) {
		<-asked
		_, _ = conn.Write(fakeReply(2, 1<<28))
	})
	defer c.Close()
	cookie := c.GetGeometryAsync(1)
	close(asked)
	if _, err := cookie.Wait(); err == nil || errors.Is(err, ErrTimeout) {
		t.Errorf("a huge reply: %v", err)
	}
}
