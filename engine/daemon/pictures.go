package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"net/http"
	"strconv"
	"time"

	"github.com/zeebo/xxh3"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/display/peek"
	"hither/engine/picture"
	"hither/engine/terminal"
)

// pictured is a PNG that was made, of what and when.
type pictured struct {
	png           []byte
	of            uint64 // hash of what it was drawn from
	width, height int    // that were asked for
	when          time.Time
}

// tag names a picture for who has seen it already.
func (p *pictured) tag() string {
	return `"` + hex.EncodeToString(fmt.Appendf(nil, "%x-%d-%d", p.of, p.width, p.height)) + `"`
}

// drawing bounds how many pictures are drawn at the same time.
type drawing chan struct{}

func (d drawing) turn(ctx context.Context) (func(), error) {
	select {
	case d <- struct{}{}:
		return func() { <-d }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var errShowsNothing = &control.Error{Text: "the app shows nothing just now"}

// thumbnail is what an app shows now. One that is on the move shows what it showed last.
func (d *Daemon) thumbnail(ctx context.Context, f *found, width, height int) (*pictured, error) {
	ctx, stop := context.WithTimeout(ctx, lookPatience)
	defer stop()
	done, err := d.drawing.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	l := d.lookAt(f.app.ID)
	l.mu.Lock()
	defer l.mu.Unlock()
	if st, err := f.capsule.State(); err != nil || !l.mayLook(st) {
		if l.thumbnail == nil {
			return nil, errShowsNothing
		}
		return l.thumbnail, nil
	} else if err := l.draw(ctx, f.capsule, st, width, height); err != nil {
		return nil, err
	}
	return l.thumbnail, nil
}

// draw brings the thumbnail up to date; mu is held.
func (l *look) draw(ctx context.Context, c *capsule.Capsule, st capsule.State, width, height int) error {
	had := func(of uint64) bool {
		t := l.thumbnail
		return t != nil && t.of == of && t.width == width && t.height == height
	}
	m, err := l.window(ctx, c, st)
	switch {
	case err == nil:
		of := xxh3.Hash(m.Pix)
		if had(of) {
			return nil
		}
		return l.keep(picture.Fit(m, width, height), of, width, height)
	case errors.Is(err, peek.ErrNoWindow) && l.thumbnail != nil:
		return nil // it is hidden: what it showed last
	case !errors.Is(err, errNoServer) && !errors.Is(err, errNoWindows):
		return err
	case !st.Spec.TTY:
		return errShowsNothing
	}
	b, err2 := c.Screen(ctx)
	if err2 != nil {
		return err2
	}
	of := xxh3.Hash(b)
	if had(of) {
		return nil
	}
	v := terminal.Look(b)
	if v.Blank() && errors.Is(err, errNoWindows) {
		return errShowsNothing // its windows are still to come
	}
	return l.keep(picture.Terminal(v, width, height), of, width, height)
}

func (l *look) keep(m image.Image, of uint64, width, height int) error {
	b, err := picture.Encode(m)
	if err != nil {
		return err
	}
	l.thumbnail = &pictured{png: b, of: of, width: width, height: height, when: time.Now()}
	return nil
}

var errNoWindows = errors.New("the app has no windows")

// window reads the app's main window; mu is held.
func (l *look) window(ctx context.Context, c *capsule.Capsule, st capsule.State) (*image.RGBA, error) {
	s, list, err := openWindows(ctx, c, st)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	l.note(list)
	w := peek.Main(list)
	if w == nil {
		return nil, errNoWindows
	}
	return s.Picture(w)
}

// side reads a size that is asked for.
func side(r *http.Request, name string, usual int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > picture.MaxSide {
		return 0, usage("", "%s=%s: wanted is a number of pixels, at most %d", name, text, picture.MaxSide)
	}
	return n, nil
}

// serveThumbnail answers with a PNG, or says that what the client has is still right.
func (d *Daemon) serveThumbnail(w http.ResponseWriter, r *http.Request) {
	width, err := side(r, "width", 320)
	height, err2 := side(r, "height", 200)
	var f *found
	if err = errors.Join(err, err2); err == nil {
		f, err = d.running(r.PathValue("app"))
	}
	var p *pictured
	if err == nil {
		p, err = d.thumbnail(r.Context(), f, width, height)
	}
	servePicture(w, r, "drawing a thumbnail of "+r.PathValue("app"), p, err)
}

func servePicture(w http.ResponseWriter, r *http.Request, doing string, p *pictured, err error) {
	if err != nil {
		fail(w, doing, err)
		return
	}
	w.Header().Set("ETag", p.tag())
	if r.Header.Get("If-None-Match") == p.tag() {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Content-Length", strconv.Itoa(len(p.png)))
	w.Write(p.png) //nolint:errcheck // who asked is gone
}
