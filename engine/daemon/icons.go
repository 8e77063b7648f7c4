package daemon

import (
	"context"
	"fmt"
	"image"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"hither/engine/desktop"
	"hither/engine/display/peek"
	"hither/engine/picture"
	"hither/transport"
)

// menu is what is installed here. It is read when somebody asks, and again when
// that was a while ago.
type menu struct {
	mu      sync.Mutex
	read    time.Time
	entries []desktop.Entry
	icons   *desktop.Icons
	drawn   map[iconKey]*pictured
}

type iconKey struct {
	what string // an entry's ID
	size int
}

const (
	menuEvery = 10 * time.Second
	// An app's window may get an icon, or another one, later.
	iconEvery = 10 * time.Second
	maxDrawn  = 2000
	iconUsual = 64
	maxIcon   = 1024
)

// load brings the menu up to date; mu is held.
func (m *menu) load() {
	if m.icons != nil && time.Since(m.read) < menuEvery {
		return
	}
	dirs := desktop.DataDirs()
	entries := desktop.Entries(dirs)
	if m.icons == nil || !slices.EqualFunc(m.entries, entries, func(a, b desktop.Entry) bool { return a.File == b.File && a.Icon == b.Icon }) {
		m.icons, m.drawn = desktop.OpenIcons(dirs), map[iconKey]*pictured{}
	}
	m.entries, m.read = entries, time.Now()
}

func (m *menu) list() []desktop.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	return m.entries
}

func (m *menu) find(id string) *desktop.Entry {
	list := m.list()
	if i := slices.IndexFunc(list, func(e desktop.Entry) bool { return e.ID == id }); i >= 0 {
		return &list[i]
	}
	return nil
}

// icon is an entry's; nil if no file of it can be read.
func (m *menu) icon(e *desktop.Entry, size int) image.Image {
	m.mu.Lock()
	m.load()
	icons := m.icons
	m.mu.Unlock()
	for _, file := range icons.Find(e.Icon, size) {
		if img, err := picture.ReadFile(file, size); err == nil {
			return img
		}
	}
	return nil
}

// installedIcon is an entry's icon, or one with its first letter.
func (m *menu) installedIcon(id string, size int) (*pictured, error) {
	e := m.find(id)
	if e == nil {
		return nil, noInstalled(id)
	}
	key := iconKey{id, size}
	m.mu.Lock()
	p := m.drawn[key]
	m.mu.Unlock()
	if p != nil {
		return p, nil
	}
	img := m.icon(e, size)
	if img == nil {
		img = picture.Letter(e.Name, size)
	}
	p, err := newIcon(img, size)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.drawn) >= maxDrawn {
		clear(m.drawn)
	}
	m.drawn[key] = p
	return p, nil
}

func newIcon(img image.Image, size int) (*pictured, error) {
	b, err := picture.Encode(picture.Square(img, size))
	if err != nil {
		return nil, err
	}
	return &pictured{png: b, of: xxh3.Hash(b), width: size, height: size, when: time.Now()}, nil
}

// icon is the app's: its window's, else that of the desktop file that fits, else one
// with its first letter.
func (d *Daemon) icon(ctx context.Context, f *found, size int) (*pictured, error) {
	if f.capsule == nil {
		return newIcon(d.iconByCommand(f.app.Name, []string{f.app.Name}, "", "", size), size)
	}
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
	old := l.icons[size]
	if old != nil && time.Since(old.when) < iconEvery {
		return old, nil
	}
	var img image.Image
	if st, err := f.capsule.State(); err == nil && l.mayLook(st) {
		if s, list, err := openWindows(ctx, f.capsule, st); err == nil {
			l.note(list)
			if w := peek.Main(list); w != nil {
				img = s.Icon(w, size)
			}
			s.Close()
		}
	} else if old != nil {
		return old, nil
	}
	// A small picture of the window's is no better than the theme's.
	if img == nil || 4*img.Bounds().Dx() < 3*size {
		if e := desktop.Match(d.menu.list(), l.instance, l.class, f.app.Command); e != nil {
			if better := d.menu.icon(e, size); better != nil {
				img = better
			}
		}
	}
	if img == nil {
		img = picture.Letter(f.app.Name, size)
	}
	p, err := newIcon(img, size)
	if err == nil {
		if len(l.icons) > 8 {
			clear(l.icons)
		}
		l.icons[size] = p
	}
	return p, err
}

// iconByCommand is that of what does not run here.
func (d *Daemon) iconByCommand(name string, argv []string, instance, class string, size int) image.Image {
	if e := desktop.Match(d.menu.list(), instance, class, argv); e != nil {
		if img := d.menu.icon(e, size); img != nil {
			return img
		}
	}
	return picture.Letter(name, size)
}

func noInstalled(id string) error {
	return usage("the list of installed apps has the IDs: GET /v1/installed", "no app %q is installed here", id)
}

func (d *Daemon) serveIcon(w http.ResponseWriter, r *http.Request) {
	size, err := iconSize(r)
	var f *found
	if err == nil {
		f, err = d.find(r.PathValue("app"))
	}
	var p *pictured
	if err == nil {
		p, err = d.icon(r.Context(), f, size)
	}
	servePicture(w, r, "drawing an icon of "+r.PathValue("app"), p, err)
}

func (d *Daemon) serveInstalledIcon(w http.ResponseWriter, r *http.Request) {
	size, err := iconSize(r)
	var p *pictured
	if err == nil {
		p, err = d.menu.installedIcon(r.PathValue("id"), size)
	}
	servePicture(w, r, "drawing the icon of "+r.PathValue("id"), p, err)
}

func iconSize(r *http.Request) (int, error) {
	size, err := side(r, "size", iconUsual)
	if err == nil && size > maxIcon {
		err = usage("", "size=%d: an icon has at most %d pixels", size, maxIcon)
	}
	return size, err
}

func (d *Daemon) servePeerIcon(w http.ResponseWriter, r *http.Request) {
	size, err := iconSize(r)
	var peer transport.Peer
	if err == nil {
		peer, err = d.peer(r.PathValue("peer"))
	}
	var p *pictured
	if err == nil {
		p, err = d.peerIcon(r.Context(), peer, r.PathValue("app"), size)
	}
	servePicture(w, r, fmt.Sprintf("asking %s for the icon of %s", r.PathValue("peer"), r.PathValue("app")), p, err)
}
