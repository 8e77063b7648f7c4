package main

import (
	"fmt"
	"image"
	"image/color"
	"testing"

	"hither/engine/handover"
)

// brightness is the mean of a picture, from 0 to 255.
func brightness(img *image.RGBA) int {
	sum := 0
	for i := 0; i < len(img.Pix); i += 4 {
		sum += int(img.Pix[i]) + int(img.Pix[i+1]) + int(img.Pix[i+2])
	}
	return sum / (3 * len(img.Pix) / 4)
}

// TestWindowsWhileTheyLeave: on a slow link the window stays behind, dimmed, until its app has left. A move that
// breaks leaves it there, and it takes keys again. What is typed meanwhile is the app's, wherever it is then.
func TestWindowsWhileTheyLeave(t *testing.T) {
	l := desktopLab(t, "xterm", "perl")
	people := l.people(t)
	a := l.typist(t)
	p := people["a"]
	// What changes all the time is sent when the app has been stopped: at 4 mbit that takes 4 seconds at least.
	p.do(t, "focus xterm")
	p.enter(t, `perl -e 'while (1) { open F, "/dev/urandom"; read F, $x, 2000000; select undef, undef, undef, 0.1 }' & clear`)
	a.types(t, p, "first")
	w := p.window(t, "xterm")
	bright := p.still(t, w.place)
	lab := func(args ...string) {
		t.Helper()
		if out, err := l.command(args...).CombinedOutput(); err != nil {
			t.Fatalf("hither-lab %v: %v\n%s", args, err, out)
		}
	}
	dimmed := func() {
		t.Helper()
		until(t, "the window is dimmed", func() (bool, string) {
			now := brightness(p.picture(t, w.place))
			return now < brightness(bright)*3/4, fmt.Sprint(now, brightness(bright))
		})
	}
	type end struct {
		handover.Result
		status int
	}
	send := func() chan end {
		ended := make(chan end, 1)
		go func() {
			r, status := a.send(t, "b")
			ended <- end{r, status}
		}()
		return ended
	}

	lab("link", "--rate", "4mbit")
	ended := send()
	dimmed()
	until(t, "how far the move is, in the middle of the window", func() (bool, string) {
		c := p.picture(t, w.place).RGBAAt(w.Width/2-150, w.Height/2-25)
		return c == color.RGBA{0x2b, 0x2f, 0x36, 0xff}, fmt.Sprint(c)
	})
	lab("link", "--rate", "100kbit") // so slow that it is not over before we are
	p.do(t, "type echo kept >/tmp/word; clear")
	lab("kill", "b", "daemon")
	if e := <-ended; e.Outcome != handover.Stayed || e.status != 1 {
		t.Fatalf("a move to a daemon that dies: %+v", e)
	}
	p.do(t, "key Return")
	a.reads(t, "/tmp/word", "kept\n")
	a.types(t, p, "second")
	bright = p.still(t, w.place)

	lab("link", "--rate", "4mbit")
	lab("start", "b", "daemon")
	ended = send()
	dimmed()
	lab("link", "--rate", "100kbit")
	p.enter(t, "echo travelled >/tmp/word; clear")
	lab("link", "--rate", "0")
	if e := <-ended; e.Outcome != handover.Moved || e.status != 0 {
		t.Fatalf("the next move: %+v", e)
	}
	a.at = "b"
	p.nothing(t)
	a.reads(t, "/tmp/word", "travelled\n")
	people["b"].do(t, "focus xterm")
	a.types(t, people["b"], "third")
}
