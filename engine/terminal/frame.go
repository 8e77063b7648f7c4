package terminal

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// MaxFrame is the longest payload of a frame.
const MaxFrame = 64 << 10

// Frame types, see the package comment.
const (
	frameData   = 'd'
	frameResize = 'r'
	framePaint  = 'p'
	frameEnd    = 'e'
)

const frameHeader = 5

// Winsize is the size of a terminal, laid out as the kernel has it.
type Winsize struct {
	Rows   uint16 `json:"rows"`
	Cols   uint16 `json:"cols"`
	XPixel uint16 `json:"xpixel,omitempty"`
	YPixel uint16 `json:"ypixel,omitempty"`
}

// Hello is what a client tells when it attaches.
type Hello struct {
	// Size of the client's window; zero when the client has none.
	Size Winsize `json:"size"`
	// Fresh says that the client started the app and wants its output from the
	// first byte, without a picture that would clear the window.
	Fresh bool `json:"fresh,omitempty"`
	// Watch says that the client only looks: it never leads, and what it sends
	// is not typed.
	Watch bool `json:"watch,omitempty"`
}

// Kind is how a client's visit to a terminal ended.
type Kind string

const (
	Exited   Kind = "exited"   // the app ended: Status
	Moved    Kind = "moved"    // the app runs on another host: Host
	Stopped  Kind = "stopped"  // somebody stopped the capsule: Status
	Detached Kind = "detached" // the client left, the app runs on
	Lost     Kind = "lost"     // the connection broke; the app may run on
)

// Outcome is the end of a visit.
type Outcome struct {
	Kind   Kind   `json:"kind"`
	Status int    `json:"status,omitempty"` // as a shell has it: 128+n for a signal
	App    string `json:"app,omitempty"`    // the app's name, for the notice
	Host   string `json:"host,omitempty"`   // where it moved
	Reason string `json:"reason,omitempty"` // a sentence for people
}

// Notice is what a person should read about the outcome, without the program's
// name before it; empty when there is nothing to say.
func (o Outcome) Notice() string {
	app := o.App
	if app == "" {
		app = "the app"
	}
	text := ""
	switch o.Kind {
	case Moved:
		text = fmt.Sprintf("%s went to %s", app, o.Host)
		if o.App != "" {
			text += fmt.Sprintf("; `hither attach %s` there joins it, `hither bring %s@%s` brings it back", o.App, o.App, o.Host)
		}
	case Stopped:
		text = app + " was stopped"
	case Detached:
		text = "detached; " + app + " runs on"
		if o.App != "" {
			text += "; come back with: hither attach " + o.App
		}
	case Lost:
		text = "lost the connection to " + app
	}
	if o.Reason != "" {
		if text == "" {
			return o.Reason
		}
		text += ": " + o.Reason
	}
	return text
}

// appendFrame adds a frame to b. The payload must not exceed MaxFrame.
func appendFrame(b []byte, kind byte, payload []byte) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// readFrame reads one frame into buf, which must hold MaxFrame bytes, and
// returns its type and payload. io.EOF means an end between two frames.
func readFrame(r io.Reader, buf []byte) (byte, []byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > MaxFrame || int(n) > len(buf) {
		return 0, nil, fmt.Errorf("reading a terminal frame: %d bytes are announced, at most %d are allowed", n, MaxFrame)
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return head[0], buf[:n], nil
}

func (w Winsize) encode() []byte {
	b := make([]byte, 0, 8)
	for _, v := range []uint16{w.Rows, w.Cols, w.XPixel, w.YPixel} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func decodeWinsize(b []byte) (Winsize, error) {
	if len(b) != 8 {
		return Winsize{}, fmt.Errorf("reading a terminal size: %d bytes instead of 8", len(b))
	}
	u := binary.BigEndian.Uint16
	return Winsize{Rows: u(b), Cols: u(b[2:]), XPixel: u(b[4:]), YPixel: u(b[6:])}, nil
}

func decodeOutcome(b []byte) (Outcome, error) {
	var o Outcome
	if err := json.Unmarshal(b, &o); err != nil {
		return Outcome{}, fmt.Errorf("reading how the app ended: %w", err)
	}
	return o, nil
}
