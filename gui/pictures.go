package gui

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"image"
	"image/png"
	"sync"
	"time"

	"hither/gui/model"
)

// picture is a picture that was fetched; it is not changed afterwards.
type picture struct {
	image image.Image
	sum   uint64
}

// pictures are the icons of apps. Those that are not known yet are fetched in the background, a few
// at a time; what could not be had is tried again after a while.
type pictures struct {
	model *model.Model
	do    func(func())
	free  chan struct{} // one entry for each fetch that may run

	mu    sync.Mutex
	known map[string]*picture
	tried map[string]time.Time
}

const (
	fetches    = 3
	tryAgain   = 20 * time.Second
	maxKnown   = 600
	iconPixels = 64
	maxSide    = 2048
)

func newPictures(m *model.Model, do func(func())) *pictures {
	return &pictures{model: m, do: do, free: make(chan struct{}, fetches), known: map[string]*picture{}, tried: map[string]time.Time{}}
}

// get calls have with the picture: at once if it is known, else later, on the main goroutine. A
// picture that is not to be had is never told of.
func (p *pictures) get(key string, fetch func(context.Context, model.Daemon) ([]byte, error), have func(*picture)) {
	p.mu.Lock()
	if known := p.known[key]; known != nil {
		p.mu.Unlock()
		have(known)
		return
	}
	if t, ok := p.tried[key]; ok && time.Since(t) < tryAgain {
		p.mu.Unlock()
		return
	}
	p.tried[key] = time.Now()
	p.mu.Unlock()
	ctx, d := p.model.Daemon()
	if d == nil {
		return
	}
	go func() {
		select {
		case p.free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-p.free }()
		ctx, stop := context.WithTimeout(ctx, 10*time.Second)
		defer stop()
		b, err := fetch(ctx, d)
		if err != nil {
			return
		}
		pic, err := decode(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		if len(p.known) >= maxKnown {
			clear(p.known)
			clear(p.tried)
		}
		p.known[key] = pic
		p.mu.Unlock()
		p.do(func() { have(pic) })
	}()
}

var seed = maphash.MakeSeed()

// decode reads a PNG of a sane size. The bytes may come from another host.
func decode(b []byte) (*picture, error) {
	conf, err := png.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("reading a picture: %w", err)
	}
	if conf.Width > maxSide || conf.Height > maxSide {
		return nil, fmt.Errorf("reading a picture: %d x %d is too large", conf.Width, conf.Height)
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("reading a picture: %w", err)
	}
	return &picture{image: img, sum: maphash.Bytes(seed, b)}, nil
}

// How often a thumbnail is drawn anew: while the window has the focus, while it has not, and how
// much of the time may be spent on it.
const (
	watchFocused = time.Second
	watchUnseen  = 4 * time.Second
	watchShare   = 20
	watchAge     = 20 * time.Second
)

// watch keeps the thumbnails of the cards that can be seen up to date, one after the other, until
// ctx ends. It stands still while the window is hidden.
func (w *Window) watch(ctx context.Context) {
	wait := time.Duration(0)
	aged := time.Now()
	for {
		select {
		case <-time.After(wait):
		case <-w.look:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		looking, focused := w.seen()
		if looking {
			w.watchOnce(ctx)
		}
		if looking && time.Since(aged) > watchAge {
			aged = time.Now()
			w.changed() // what says how long something runs
		}
		wait = watchUnseen
		if focused {
			wait = watchFocused
		}
		wait = max(wait, watchShare*time.Since(began))
	}
}

// watchOnce fetches the thumbnails of the cards that can be seen.
func (w *Window) watchOnce(ctx context.Context) {
	link, d := w.Model.Daemon()
	if d == nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(link, stop)()
	type want struct {
		card          *appCard
		id            string
		width, height int
		sum           uint64
	}
	got := make(chan []want, 1)
	w.do(func() {
		var list []want
		scale := w.win.Canvas().Scale()
		for _, c := range w.here.shown {
			if !w.here.inView(c) || !canMove(c.app) {
				continue
			}
			size := c.thumb.Size()
			v := want{card: c, id: c.app.ID, width: int(size.Width * scale), height: int(size.Height * scale)}
			if c.seen != nil {
				v.sum = c.seen.sum
			}
			if v.width > 0 && v.height > 0 {
				list = append(list, v)
			}
		}
		got <- list
	})
	var list []want
	select {
	case list = <-got:
	case <-ctx.Done():
		return
	}
	for _, v := range list {
		asking, stop := context.WithTimeout(ctx, 5*time.Second)
		b, err := d.Thumbnail(asking, v.id, v.width, v.height)
		stop()
		if err != nil || maphash.Bytes(seed, b) == v.sum {
			continue
		}
		if pic, err := decode(b); err == nil {
			w.do(func() { v.card.show(v.id, pic) })
		}
	}
}
