package main

import (
	"fmt"
	"image"
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
