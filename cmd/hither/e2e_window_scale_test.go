package main

import (
	"fmt"
	"image"
	"testing"
)

// setDPI has a host's desktop say how many dots per inch it has.
func (l *lab) setDPI(t *testing.T, host string, dpi int) {
	t.Helper()
	if d := l.on(host, "xprop", "-root", "-f", "RESOURCE_MANAGER", "8s", "-set", "RESOURCE_MANAGER", fmt.Sprintf("Xft.dpi: %d", dpi)); d.status != 0 {
		t.Fatalf("setting the scale of %s: %s", host, d.err)
	}
}

// doubled is a picture with each pixel as four.
func doubled(img *image.RGBA) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, 2*img.Rect.Dx(), 2*img.Rect.Dy()))
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			out.SetRGBA(x, y, img.RGBAAt(x/2, y/2))
		}
	}
	return out
}

// TestWindowsScale: an app that does not follow the desktop's scale is twice as large on a desktop with twice as
// many dots per inch, to the pixel; keys, words that are selected and menus are where they are seen. At home it is
// what it was, however often it has been away.
func TestWindowsScale(t *testing.T) {
	l := desktopLab(t, "xterm", "xprop", "xclip")
	l.setDPI(t, "b", 192)
	people := l.people(t)
	a := l.terminal(t, "60x16+100+60")
	p := people["a"]
	home := *p.do(t, "focus xterm").Window
	const line = "seq -s ' ' 60; echo some words"
	p.run(t, line)
	shown := p.changes(t, home.place, func() { p.do(t, "type echo half") })
	// menu opens the terminal's main menu and points at something in it, which seen looks at.
	menu := func(w place, n int, seen func(at place, point func())) {
		t.Helper()
		p.do(t, "move %d %d", w.X+n*100, w.Y+n*50)
		p.do(t, "down Control_L")
		p.do(t, "press 1")
		at := p.menus(t, 1)[0].place
		at.Height = n * 100 // what is on the screen
		seen(at, func() { p.do(t, "move %d %d", at.X+n*60, at.Y+n*70) })
		p.do(t, "move %d %d", w.X+n*5, w.Y+n*5) // out of it
		p.do(t, "release 1")
		p.do(t, "up Control_L")
		p.menus(t, 0)
	}
	var pointed *image.RGBA
	menu(home.place, 1, func(at place, point func()) { pointed = p.changes(t, at, point) })
	for round := range 3 {
		a.move(t)
		people["a"].nothing(t)
		p = people["b"]
		w := *p.do(t, "focus xterm").Window
		if w.Width != 2*home.Width || w.Height != 2*home.Height || w.X != 2*home.X || w.Y != 2*home.Y {
			t.Errorf("on b the window is %+v, at home %+v", w.place, home.place)
		}
		p.shows(t, w.place, doubled(shown))
		menu(w.place, 2, func(at place, point func()) {
			point()
			p.shows(t, at, doubled(pointed))
		})
		// The word "some", in the fifth line of letters of 6x13 pixels.
		p.do(t, "move %d %d", w.X+2*(3+1), w.Y+2*(3+4*13+6))
		p.do(t, "press")
		p.do(t, "move %d %d", w.X+2*(3+4*6+1), w.Y+2*(3+4*13+6))
		p.do(t, "release")
		until(t, "a word that is selected", func() (bool, string) {
			got := p.selected()
			return got == "some", got
		})
		p.run(t, fmt.Sprintf("way-%d >/tmp/state", round))
		a.reads(t, "/tmp/state", fmt.Sprintf("halfway-%d\n", round))
		p.do(t, "key ctrl+l")
		p.run(t, line)
		p.do(t, "type echo half")
		p.shows(t, w.place, doubled(shown))

		a.move(t)
		p = people["a"]
		if w := *p.do(t, "focus xterm").Window; w.place != home.place {
			t.Errorf("back home the window is %+v, and was %+v", w.place, home.place)
		}
		p.shows(t, home.place, shown)
	}
}

// TestWindowsScaleButtons: a button is pressed where it is seen.
func TestWindowsScaleButtons(t *testing.T) {
	l := desktopLab(t, "xcalc", "xprop")
	l.setDPI(t, "b", 192)
	people := l.people(t)
	a := l.startWindow(t, "calc", "xcalc", "-geometry", "245x360+20+0")
	press := func(p *person, w place, n, x, y int) {
		t.Helper()
		p.do(t, "move %d %d", w.X+n*x, w.Y+n*y)
		p.do(t, "click")
		p.still(t, w)
		p.do(t, "move 1270 790") // so that nothing is lit up
	}
	p := people["a"]
	home := *p.do(t, "focus Calculator").Window
	zero := p.still(t, home.place)
	press(p, home.place, 1, 68, 264) // 7
	var seven *image.RGBA
	until(t, "a seven", func() (bool, string) {
		seven = p.still(t, home.place)
		return differ(seven, zero) > 0, ""
	})
	press(p, home.place, 1, 201, 81) // AC
	p.shows(t, home.place, zero)
	a.move(t)
	p = people["b"]
	w := *p.do(t, "focus Calculator").Window
	if w.Width != 2*home.Width || w.Height != 2*home.Height {
		t.Errorf("on b the window is %+v, at home %+v", w.place, home.place)
	}
	p.shows(t, w.place, doubled(zero))
	press(p, w.place, 2, 68, 264)
	p.shows(t, w.place, doubled(seven))
	a.move(t)
	p = people["a"]
	if w := *p.do(t, "focus Calculator").Window; w.Width != home.Width || w.Height != home.Height {
		t.Errorf("back home the window is %+v, and was %+v", w.place, home.place)
	} else {
		p.shows(t, w.place, seven)
	}
}
