// Package probe tells tests where things are in the window: where a card lies that is to be dragged, whether
// a button is there, what a label says. It is at work only if the environment names a socket for it,
// and it changes nothing.
//
// In a nutshell: each line that comes over the socket is answered by a line of JSON: "look" by the tree of what is
// visible, in pixels of the window; "frame" after the window has taken in what the mouse and keys did until now, and
// "ping" by how long the main goroutine took to come to it.
package probe

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/widget"
)

// Env names the socket.
const Env = "HITHER_GUI_TEST"

// Thing is one object of the window.
type Thing struct {
	Kind     string  `json:"kind"` // the type's name
	Text     string  `json:"text,omitempty"`
	X        int     `json:"x"`
	Y        int     `json:"y"`
	W        int     `json:"w"`
	H        int     `json:"h"`
	Disabled bool    `json:"disabled,omitempty"`
	Within   []Thing `json:"within,omitempty"`
}

type answer struct {
	Window *Thing  `json:"window,omitempty"`
	MS     float64 `json:"ms"` // until the main goroutine came to it
	Error  string  `json:"error,omitempty"`
}

// Serve serves until the program ends, if the environment wants it.
func Serve(w fyne.Window) error {
	path := os.Getenv(Env)
	if path == "" {
		return nil
	}
	l, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o777) // the test may be another user
	}
	if err != nil {
		return fmt.Errorf("opening the socket for tests: %w", err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn, w)
		}
	}()
	return nil
}

func serve(conn net.Conn, w fyne.Window) {
	defer conn.Close()
	enc := json.NewEncoder(conn)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var a answer
		began := time.Now()
		if lines.Text() == "frame" {
			frame()
			a.MS = float64(time.Since(began).Microseconds()) / 1000
			if enc.Encode(a) != nil {
				return
			}
			continue
		}
		fyne.DoAndWait(func() {
			a.MS = float64(time.Since(began).Microseconds()) / 1000
			switch lines.Text() {
			case "look":
				t := look(w)
				a.Window = &t
			case "ping":
			default:
				a.Error = "look, frame or ping"
			}
		})
		if enc.Encode(a) != nil {
			return
		}
	}
}

// frame waits for a frame that begins now: input is taken in at its beginning, and animations
// come after it.
func frame() {
	done := make(chan struct{})
	var once sync.Once
	fyne.DoAndWait(func() {
		fyne.NewAnimation(time.Millisecond, func(float32) { once.Do(func() { close(done) }) }).Start()
	})
	<-done
}

// look is what is visible, what lies on top last.
func look(w fyne.Window) Thing {
	c := w.Canvas()
	size := c.Size()
	s := c.Scale()
	all := Thing{Kind: "window", Text: w.Title(), W: int(size.Width * s), H: int(size.Height * s)}
	clip := rect{0, 0, size.Width, size.Height}
	for _, top := range append([]fyne.CanvasObject{c.Content()}, c.Overlays().List()...) {
		if t, ok := thing(top, fyne.Position{}, clip, s); ok {
			all.Within = append(all.Within, t)
		}
	}
	return all
}

type rect struct{ x, y, x2, y2 float32 }

func (r rect) and(o rect) rect {
	return rect{max(r.x, o.x), max(r.y, o.y), min(r.x2, o.x2), min(r.y2, o.y2)}
}

// thing is an object, as far as it is inside of the clip: what is scrolled away is not there.
func thing(o fyne.CanvasObject, base fyne.Position, clip rect, scale float32) (Thing, bool) {
	if o == nil || !o.Visible() {
		return Thing{}, false
	}
	at := base.Add(o.Position())
	size := o.Size()
	in := clip.and(rect{at.X, at.Y, at.X + size.Width, at.Y + size.Height})
	empty := in.x2 <= in.x || in.y2 <= in.y
	kind := reflect.TypeOf(o)
	for kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	t := Thing{Kind: kind.Name(), Text: text(o), X: int(in.x * scale), Y: int(in.y * scale), W: int((in.x2 - in.x) * scale), H: int((in.y2 - in.y) * scale)}
	if d, ok := o.(fyne.Disableable); ok {
		t.Disabled = d.Disabled()
	}
	inner := clip
	if kind.Name() == "Scroll" {
		inner = in
	}
	var children []fyne.CanvasObject
	switch o := o.(type) {
	case *fyne.Container:
		children = o.Objects
	case fyne.Widget:
		if r := renderer(o); r != nil {
			children = r.Objects()
		}
	}
	for _, child := range children {
		if c, ok := thing(child, at, inner, scale); ok {
			t.Within = append(t.Within, c)
		}
	}
	// A layer without a size of its own may hold what has one.
	return t, !empty || len(t.Within) > 0
}

func text(o fyne.CanvasObject) string {
	switch o := o.(type) {
	case *canvas.Text:
		return o.Text
	case *widget.Label:
		return o.Text
	case *widget.Button:
		return o.Text
	case *widget.Check:
		return o.Text
	case *widget.Entry:
		return o.Text
	case *widget.Select:
		return o.Selected
	case *widget.RichText:
		return o.String()
	case interface{ Says() string }: // widgets of the house
		return o.Says()
	}
	return ""
}
