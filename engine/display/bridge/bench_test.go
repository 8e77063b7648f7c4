package bridge

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

// painterApp is an app that paints its window anew for each key it gets.
func painterApp(ctx context.Context, c *xwire.Conn, w xwire.Window, size rect) {
	gc := xwire.NewID[xwire.GContext](c)
	c.CreateGC(gc, xwire.Drawable(w), xwire.GCValues{})
	colour := uint32(0)
	for {
		ev, err := c.NextEvent(ctx)
		if err != nil {
			return
		}
		if _, ok := ev.(*xwire.KeyPressEvent); ok {
			colour ^= 0x00ff00
			c.ChangeGC(gc, xwire.GCValues{Mask: xwire.GCForeground, Foreground: colour})
			c.PolyFillRectangle(xwire.Drawable(w), gc, []xwire.Rectangle{{Width: uint16(size.w), Height: uint16(size.h)}})
			_ = c.Flush()
		}
	}
}

// BenchmarkKeyToPixel is the time from a key at the desktop until what the app
// draws for it can be seen there: on the desktop itself, and through the bridge.
func BenchmarkKeyToPixel(b *testing.B) {
	for _, kind := range []string{"native", "bridge", "sockets"} {
		b.Run(kind, func(b *testing.B) {
			f := newBench(b, xservers.Xvfb(b, size), true)
			if kind == "native" {
				f.app = dial(b, f.desk)
			} else {
				f.o.NoSharedMemory = kind == "sockets"
				f.start()
			}
			w := f.appWindow("keys", rect{0, 0, 300, 200}, 0, nil)
			native := f.nativeWindow("keys")
			at := place(b, f.user, native)
			f.click(at.x+5, at.y+5)
			f.focused(w)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { painterApp(ctx, f.app, w, rect{0, 0, 10, 16}); close(done) }()
			defer func() { cancel(); <-done }()
			var times []time.Duration
			colour := uint32(0)
			for range b.N {
				colour ^= 0x00ff00
				began := time.Now()
				f.hand(fakeKeyPress, 38, 0, 0)
				for f.pixel(at.x+1, at.y+1) != colour {
					if time.Since(began) > patience {
						b.Fatal("no picture")
					}
				}
				times = append(times, time.Since(began))
				f.hand(fakeKeyRelease, 38, 0, 0)
				time.Sleep(20 * time.Millisecond) // as a very fast typist
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(times[len(times)*95/100].Microseconds())/1000, "ms-p95")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkFullUpdates paints a window of 1280x800 as a whole, at 60 pictures a
// second, and tells what that costs the bridge.
func BenchmarkFullUpdates(b *testing.B) {
	for _, kind := range []string{"memory", "sockets"} {
		b.Run(kind, func(b *testing.B) {
			f := newBench(b, xservers.Xvfb(b, size), false)
			f.o.NoSharedMemory = kind == "sockets"
			f.start()
			w := f.appWindow("video", rect{0, 0, 1280, 800}, 0, nil)
			f.ready("video", w)
			const rate = 60
			tick := time.NewTicker(time.Second / rate)
			defer tick.Stop()
			gc := xwire.NewID[xwire.GContext](f.app)
			f.app.CreateGC(gc, xwire.Drawable(w), xwire.GCValues{})
			cpu, servers, began := ownCPU(), cpuOf(b, f), time.Now()
			for i := range b.N {
				<-tick.C
				f.app.ChangeGC(gc, xwire.GCValues{Mask: xwire.GCForeground, Foreground: uint32(i)})
				f.app.PolyFillRectangle(xwire.Drawable(w), gc, []xwire.Rectangle{{Width: 1280, Height: 800}})
				_ = f.app.Flush()
			}
			f.awaitPixel(1200, 700, uint32(b.N-1)&0xffffff)
			took := time.Since(began)
			b.ReportMetric(100*float64(ownCPU()-cpu)/float64(took), "%bridge")
			b.ReportMetric(100*float64(cpuOf(b, f)-servers)/float64(took), "%servers")
			b.ReportMetric(float64(b.N)/took.Seconds(), "pictures/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// ownCPU is what this process has used, the bridge and a little more.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func cpuOf(b testing.TB, f *bench) time.Duration {
	b.Helper()
	sum := 0
	for _, s := range []*xservers.Server{f.capsule, f.desk} {
		stat := must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Process.Pid)))(b)
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
		for _, i := range []int{11, 12} {
			sum += must(strconv.Atoi(fields[i]))(b)
		}
	}
	return time.Duration(sum) * time.Second / 100
}

// BenchmarkPart is how long letting go takes, and coming back until the picture
// is right again, with a window of 1280x800.
func BenchmarkPart(b *testing.B) {
	f := newBench(b, xservers.Xvfb(b, size), true)
	f.start()
	w := f.appWindow("leaving", rect{0, 0, 1200, 700}, 0x808080, nil)
	_, at := f.ready("leaving", w)
	f.awaitPixel(at.x+5, at.y+5, 0x808080)
	var parting, coming time.Duration
	for range b.N {
		began := time.Now()
		f.part()
		parting += time.Since(began)
		began = time.Now()
		f.back()
		f.fill(w, 0x808080, rect{0, 0, 10, 10})
		f.awaitPixel(at.x+5, at.y+5, 0x808080)
		coming += time.Since(began)
		time.Sleep(50 * time.Millisecond)
	}
	b.ReportMetric(float64(parting.Microseconds())/1000/float64(b.N), "ms-part")
	b.ReportMetric(float64(coming.Microseconds())/1000/float64(b.N), "ms-back")
	b.ReportMetric(0, "ns/op")
}
