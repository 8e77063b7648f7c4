package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// xClient is as much of an X client as the lab itself needs: it waits for a window manager, paints the
// background and takes pictures. It sends one request after the other in little-endian order, and looks
// at events only where it waits for one.
type xClient struct {
	conn          net.Conn
	in            *bufio.Reader
	root          uint32
	width, height int
	check         uint32 // the atom _NET_SUPPORTING_WM_CHECK
}

// Numbers of the X protocol's core.
const (
	xChangeWindowAttributes = 2
	xInternAtom             = 16
	xGetProperty            = 20
	xClearArea              = 61
	xGetImage               = 73

	xBackPixel      = 1 << 1  // window attributes
	xEventMask      = 1 << 11 //
	xPropertyChange = 1 << 22 // kinds of events
	xPropertyNotify = 28
	xAtomWindow     = 33
	xZPixmap        = 2
)

var le = binary.LittleEndian

// dialX opens a display by its socket, with the cookie in an Xauthority file.
func dialX(socket, authority string) (*xClient, error) {
	cookie, err := readCookie(authority)
	if err != nil {
		return nil, fmt.Errorf("reading the display's cookie: %w", err)
	}
	conn, err := net.DialTimeout("unix", socket, desktopWait)
	if err != nil {
		return nil, err
	}
	x := &xClient{conn: conn, in: bufio.NewReaderSize(conn, 1<<16)}
	conn.SetDeadline(time.Now().Add(desktopWait)) //nolint:errcheck // a socket takes one
	if err = x.greet(cookie); err == nil {
		x.check, err = x.atom("_NET_SUPPORTING_WM_CHECK")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return x, nil
}

func (x *xClient) close() { x.conn.Close() }

func pad4(n int) int { return (n + 3) &^ 3 }

// greet opens the conversation, and learns of the first screen what newCookie's displays have: 24 bits of
// colour in 32 bits of image.
func (x *xClient) greet(cookie []byte) error {
	hello := []byte{'l', 0, 11, 0, 0, 0}
	hello = le.AppendUint16(hello, uint16(len(cookieKind)))
	hello = le.AppendUint16(hello, uint16(len(cookie)))
	hello = append(hello, 0, 0)
	hello = append(hello, cookieKind...)
	hello = append(hello, make([]byte, pad4(len(hello))-len(hello))...)
	hello = append(hello, cookie...)
	if _, err := x.conn.Write(append(hello, make([]byte, pad4(len(hello))-len(hello))...)); err != nil {
		return err
	}
	head := make([]byte, 8)
	if _, err := io.ReadFull(x.in, head); err != nil {
		return err
	}
	body := make([]byte, 4*int(le.Uint16(head[6:])))
	if _, err := io.ReadFull(x.in, body); err != nil {
		return err
	}
	if head[0] != 1 {
		reason := body[:min(int(head[1]), len(body))]
		return fmt.Errorf("the X server refuses: %s", strings.TrimSpace(string(reason)))
	}
	strange := errors.New("the X server's greeting is damaged")
	if len(body) < 32 {
		return strange
	}
	at := 32 + pad4(int(le.Uint16(body[16:]))) + 8*int(body[21]) // behind vendor and formats
	if len(body) < at+40 {
		return strange
	}
	screen := body[at:]
	x.root = le.Uint32(screen)
	x.width, x.height = int(le.Uint16(screen[20:])), int(le.Uint16(screen[22:]))
	if depth := screen[38]; body[22] != 0 || depth != 24 {
		return fmt.Errorf("the display has depth %d, byte order %d; a lab's desktop has 24, 0", depth, body[22])
	}
	return nil
}

// request sends a request: its number, the byte beside it, and words.
func (x *xClient) request(number, with byte, words ...uint32) error {
	b := le.AppendUint16([]byte{number, with}, uint16(1+len(words)))
	for _, w := range words {
		b = le.AppendUint32(b, w)
	}
	_, err := x.conn.Write(b)
	return err
}

// read reads the next reply or event. The server's errors are errors.
func (x *xClient) read() (head, body []byte, err error) {
	head = make([]byte, 32)
	if _, err := io.ReadFull(x.in, head); err != nil {
		return nil, nil, err
	}
	switch head[0] {
	case 0:
		return nil, nil, xError(head[1])
	case 1:
		body = make([]byte, 4*int(le.Uint32(head[4:])))
		_, err = io.ReadFull(x.in, body)
	}
	return head, body, err
}

// reply reads up to the next reply.
func (x *xClient) reply() (head, body []byte, err error) {
	for {
		if head, body, err = x.read(); err != nil || head[0] == 1 {
			return head, body, err
		}
	}
}

// xError is an error code of the protocol.
type xError byte

const xBadWindow xError = 3

func (e xError) Error() string { return fmt.Sprintf("the X server answers with error %d", byte(e)) }

func (x *xClient) atom(name string) (uint32, error) {
	words := []uint32{uint32(len(name))}
	for padded := append([]byte(name), 0, 0, 0); len(padded) >= 4; padded = padded[4:] {
		words = append(words, le.Uint32(padded))
	}
	if err := x.request(xInternAtom, 0, words...); err != nil {
		return 0, err
	}
	head, _, err := x.reply()
	if err != nil {
		return 0, err
	}
	return le.Uint32(head[8:]), nil
}

// windowIn reads a property that holds a window; 0 where there is none.
func (x *xClient) windowIn(window, property uint32) (uint32, error) {
	if err := x.request(xGetProperty, 0, window, property, xAtomWindow, 0, 1); err != nil {
		return 0, err
	}
	_, body, err := x.reply()
	if err != nil || len(body) < 4 {
		return 0, err
	}
	return le.Uint32(body), nil
}

// managed tells whether a window manager is at work: its window, named on the root, names itself. What
// a dead one left on the root names a window that is gone, or another's.
func (x *xClient) managed() (bool, error) {
	window, err := x.windowIn(x.root, x.check)
	if window == 0 || err != nil {
		return false, err
	}
	self, err := x.windowIn(window, x.check)
	if errors.Is(err, xBadWindow) {
		return false, nil
	}
	return self == window, err
}

// waitManaged returns when a window manager is at work.
func (x *xClient) waitManaged() error {
	if err := x.request(xChangeWindowAttributes, 0, x.root, xEventMask, xPropertyChange); err != nil {
		return err
	}
	for {
		if ok, err := x.managed(); ok || err != nil {
			return err
		}
		// Events that came before the answer were passed over by it, and are in it.
		for {
			head, _, err := x.read()
			if err != nil {
				return err
			}
			if head[0]&0x7f == xPropertyNotify && le.Uint32(head[8:]) == x.check {
				break
			}
		}
	}
}

// paintRoot gives the root window one colour, 0xRRGGBB.
func (x *xClient) paintRoot(colour uint32) error {
	if err := x.request(xChangeWindowAttributes, 0, x.root, xBackPixel, colour); err != nil {
		return err
	}
	return x.request(xClearArea, 0, x.root, 0, 0)
}

// picture is what the display shows, without the pointer.
func (x *xClient) picture() (*image.RGBA, error) {
	size := uint32(x.width) | uint32(x.height)<<16
	if err := x.request(xGetImage, xZPixmap, x.root, 0, size, 0xffffffff); err != nil {
		return nil, err
	}
	_, data, err := x.reply()
	if err != nil {
		return nil, err
	}
	img := image.NewRGBA(image.Rect(0, 0, x.width, x.height))
	if len(data) < len(img.Pix) {
		return nil, fmt.Errorf("the X server sent %d bytes of picture instead of %d", len(data), len(img.Pix))
	}
	for i := 0; i < len(img.Pix); i += 4 {
		img.Pix[i], img.Pix[i+1], img.Pix[i+2], img.Pix[i+3] = data[i+2], data[i+1], data[i], 0xff
	}
	return img, nil
}

const cookieKind = "MIT-MAGIC-COOKIE-1"

// readCookie is the cookie in an Xauthority file of one entry, as a lab's desktops have it.
func readCookie(path string) ([]byte, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, cookie, found := bytes.Cut(file, []byte(cookieKind))
	if !found || len(cookie) < 2 || len(cookie) != 2+int(binary.BigEndian.Uint16(cookie)) {
		return nil, fmt.Errorf("%s is not the one that this desktop had", path)
	}
	return cookie[2:], nil
}
