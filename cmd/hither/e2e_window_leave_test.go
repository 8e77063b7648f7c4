package main

import (
	"fmt"
	"image"
	"image/color"
	"strings"
	"testing"
	"time"

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
	// What changes all the time is sent when the app has been stopped: at 6 mbit that takes 2.6 seconds at least.
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

	lab("link", "--rate", "6mbit")
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

	lab("link", "--rate", "6mbit")
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

// TestWindowsTypedAllTheTime: numbers are typed without a pause while the app moves, until its window has gone, and at
// once where it has come. All that was typed at a window has come, once and in order.
func TestWindowsTypedAllTheTime(t *testing.T) {
	l := desktopLab(t, "xterm")
	people := l.people(t)
	a := l.startWindow(t, "term", "xterm", "-geometry", "40x10+150+120", "-e", "sh", "-c", "stty raw -echo; echo >/tmp/ready; exec cat >/tmp/typed")
	a.reads(t, "/tmp/ready", "\n")
	var numbers strings.Builder
	for n := 1000; n < 2000; n++ {
		fmt.Fprint(&numbers, n, "-")
	}
	before := ""
	for leg := range 4 {
		p, there := people[a.at], people[a.other()]
		p.do(t, "focus xterm")
		type end struct {
			handover.Result
			status int
		}
		ended := make(chan end, 1)
		began := make(chan struct{})
		go func() {
			<-began
			r, status := a.send(t, a.other())
			ended <- end{r, status}
		}()
		pace := time.NewTicker(12 * time.Millisecond)
		defer pace.Stop()
		typed, sure := 0, 0
		for gone := false; !gone && typed < numbers.Len(); typed++ {
			<-pace.C
			p.do(t, "type %c", numbers.String()[typed])
			if windows, _ := p.all(t); len(windows) == 0 {
				gone = true
			} else {
				sure = typed + 1
			}
			if typed == 5 {
				close(began)
			}
		}
		there.do(t, "focus xterm")
		there.do(t, "type <%d>", leg)
		if e := <-ended; e.Outcome != handover.Moved || e.status != 0 {
			t.Fatalf("sending it: %+v", e)
		}
		a.at = a.other()
		last := fmt.Sprintf("<%d>", leg)
		var got string
		until(t, "what is typed there", func() (bool, string) {
			got = a.exec(t, "cat", "/tmp/typed")
			return strings.HasSuffix(got, last), got
		})
		way, ok := strings.CutPrefix(strings.TrimSuffix(got, last), before)
		t.Logf("%d keys were pressed, %d of them surely at the window, and %d came", typed, sure, len(way))
		if !ok || !strings.HasPrefix(numbers.String(), way) || len(way) < sure || len(way) > typed {
			t.Fatalf("what came is\n%s\nof %d keys, %d of them surely at the window", got, typed, sure)
		}
		before = got
	}
}
