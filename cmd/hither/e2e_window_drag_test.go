package main

import (
	"strings"
	"testing"
)

// TestWindowsDrag: text is dragged within a window, and from one window of an app's to another, here and there.
func TestWindowsDrag(t *testing.T) {
	l := desktopLab(t, "mousepad", "xclip")
	people := l.people(t)
	path := l.put(t, "a", "words.txt", "")
	a := l.startWindow(t, "pad", "mousepad", path)
	people["a"].do(t, "focus words.txt")
	people["a"].do(t, "type one two")
	// Its first word goes behind the last one, which is all that is below.
	drag := func(p *person, word string, from, to deskWindow) {
		t.Helper()
		p.do(t, "focus %s", from.Title)
		p.do(t, "key ctrl+Home")
		p.do(t, "key ctrl+shift+Right")
		until(t, "a word that is selected", func() (bool, string) { // before that it takes the press for none
			got := p.selected()
			return got == word, got
		})
		p.do(t, "move %d %d", from.X+15, from.Y+37)
		p.do(t, "drag %d %d", to.X+250, to.Y+300)
	}
	reads := func(p *person, w deskWindow, want string) {
		t.Helper()
		until(t, "what was dragged in its place", func() (bool, string) {
			p.do(t, "focus %s", strings.TrimPrefix(w.Title, "*"))
			p.do(t, "key ctrl+s")
			got := l.cat(t, "a", "words.txt")
			return strings.TrimSuffix(got, "\n") == want, got
		})
	}
	p := people["a"]
	first := p.window(t, "words.txt")
	drag(p, "one", first, first)
	reads(p, p.window(t, "words.txt"), " twoone")

	// And so on the other host, into another window.
	a.move(t)
	p = people["b"]
	p.do(t, "focus words.txt")
	p.do(t, "key ctrl+shift+n")
	p.do(t, "focus Untitled")
	p.do(t, "type three")
	other, w := p.window(t, "Untitled"), p.window(t, "words.txt")
	other.X = w.X - 300 // openbox puts it at the left edge; the part that will not be below the first one
	drag(p, " twoone", w, other)
	until(t, "what was dragged behind what was there", func() (bool, string) {
		p.do(t, "focus Untitled")
		p.do(t, "key ctrl+a")
		got := p.selected()
		return got == "three twoone", got
	})
	p.do(t, "key ctrl+x")
	p.do(t, "focus words.txt")
	p.do(t, "key ctrl+a")
	p.do(t, "key ctrl+v")
	a.move(t)
	reads(people["a"], people["a"].window(t, "words.txt"), "three twoone")
}
