package xwire

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

const benchWidth, benchHeight = 1280, 800

func benchServer(b *testing.B) (*Conn, Window, GContext) {
	s := startXvfb(b)
	c := s.dial(Shm)
	w := window(b, c, benchWidth, benchHeight, 0)
	gc := NewID[GContext](c)
	c.CreateGC(gc, Drawable(w), GCValues{})
	return c, w, gc
}

// A whole window from shared memory, until the server says that it is done.
func BenchmarkShmPutImage(b *testing.B) {
	c, w, gc := benchServer(b)
	fd, err := unix.MemfdCreate("picture", unix.MFD_CLOEXEC)
	ok(b, err)
	file := os.NewFile(uintptr(fd), "picture")
	defer file.Close()
	ok(b, file.Truncate(4*benchWidth*benchHeight))
	seg := NewID[ShmSeg](c)
	ok(b, c.ShmAttachFdChecked(seg, file, true))
	for b.Loop() {
		c.ShmPutImage(Drawable(w), gc, benchWidth, benchHeight, 0, 0, benchWidth, benchHeight, 0, 0, 24, uint8(ImageFormatZPixmap), true, seg, 0)
		await[*ShmCompletionEvent](b, c, nil)
	}
}

// A whole window through the socket.
func BenchmarkPutImage(b *testing.B) {
	c, w, gc := benchServer(b)
	data := make([]byte, 4*benchWidth*benchHeight)
	for b.Loop() {
		ok(b, c.PutImageChecked(ImageFormatZPixmap, Drawable(w), gc, benchWidth, benchHeight, 0, 0, 0, 24, data))
	}
}

func BenchmarkGetImage(b *testing.B) {
	c, w, _ := benchServer(b)
	for b.Loop() {
		must(c.GetImage(ImageFormatZPixmap, Drawable(w), 0, 0, benchWidth-10, benchHeight-20, 0xffffffff))(b)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	c, _, _ := benchServer(b)
	for b.Loop() {
		ok(b, c.Sync())
	}
}
