package main

import (
	"fmt"
	"image"
	"path/filepath"
	"testing"
)

// TestWindowsCalculator: a calculation that is half done goes on, on each host, from a number and a sign that are
// shown nowhere.
func TestWindowsCalculator(t *testing.T) {
	l := desktopLab(t, "xcalc")
	people := l.people(t)
	a := l.startWindow(t, "calc", "xcalc")
	p := people["a"]
	w := *p.do(t, "focus XCalc").Window
	shown := func(keys string) *image.RGBA {
		t.Helper()
		before := p.still(t, w.place)
		p.do(t, "type %s", keys)
		until(t, "the calculator takes keys", func() (bool, string) { return differ(p.picture(t, w.place), before) > 0, "" })
		return p.still(t, w.place)
	}
	sum := shown("42=")
	half := shown("30+12-12+10")
	if differ(sum, half) == 0 {
		t.Fatal("the calculator shows the same whatever is typed")
	}
	a.tour(t, func(host string) {
		p = people[host]
		p.do(t, "focus XCalc")
		p.shows(t, w.place, half)
		p.do(t, "type +2=")
		p.shows(t, w.place, sum)
		p.do(t, "type 30+12-12+10")
		p.shows(t, w.place, half)
	})
}

// TestWindowsClock: a clock ticks on, on each host.
func TestWindowsClock(t *testing.T) {
	l := desktopLab(t, "xclock")
	people := l.people(t)
	a := l.startWindow(t, "clock", "xclock", "-digital", "-update", "1", "-strftime", "%H:%M:%S")
	ticks := func(host string) {
		t.Helper()
		p := people[host]
		w := p.window(t, "xclock")
		seen := map[uint64]bool{}
		until(t, "three different times on "+host, func() (bool, string) {
			seen[sum(p.picture(t, w.place))] = true
			return len(seen) >= 3, fmt.Sprint(len(seen))
		})
	}
	ticks("a")
	a.tour(t, ticks)
}

// TestWindowsJava: a Swing window is drawn, and the choices of its box appear right below that, on each host.
func TestWindowsJava(t *testing.T) {
	l := desktopLab(t, "java", "javac")
	people := l.people(t)
	path := l.program(t, "Swing.java")
	l.must(t, "a", "javac", path)
	a := l.startWindow(t, "swing", "java", "-cp", filepath.Dir(path), "Swing")
	for n := range 3 {
		p := people[a.at]
		w := *p.do(t, "focus Swing").Window
		var shown *image.RGBA
		drawn := func(x, y int) bool { return shown.RGBAAt(x, y) != shown.RGBAAt(4, w.Height-4) }
		until(t, "the text area", func() (bool, string) {
			shown = p.picture(t, w.place)
			return drawn(w.Width/4, 40), ""
		})
		shown = p.still(t, w.place)
		// The box is the last thing in its line.
		box := image.Rectangle{Min: image.Pt(w.Width-1, 0)}
		for ; !drawn(box.Min.X, 50); box.Min.X-- {
		}
		for box.Max = box.Min; drawn(box.Max.X, box.Max.Y+50); box.Max.Y++ {
		}
		p.do(t, "move %d %d", w.X+box.Min.X-8, w.Y+50)
		p.do(t, "click")
		list := p.menus(t, 1)[0]
		if right, top := list.X+list.Width-w.X-1, list.Y-w.Y; right != box.Min.X || top < 50+box.Max.Y-1 || top > 50+box.Max.Y+1 {
			t.Errorf("on %s the choices end at %d and begin at %d, the box ends at %d, %d", a.at, right, top, box.Min.X, 50+box.Max.Y)
		}
		p.do(t, "key Escape")
		p.menus(t, 0)
		if n < 2 {
			a.move(t)
		}
	}
}
