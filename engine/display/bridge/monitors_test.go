package bridge

import (
	"fmt"
	"slices"
	"testing"

	"hither/engine/display/xwire"
)

// TestMonitors: the app sees the desktop's monitors, those that come later, too.
func TestMonitors(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		for _, c := range []*xwire.Conn{b.app, b.user} {
			if err := c.Use(xwire.RandR); err != nil {
				t.Fatal(err)
			}
		}
		output := must(b.user.RandRGetMonitors(b.user.Root(), true))(t).Monitors[0].Outputs
		set := func(name string, r rect, outputs []xwire.RandROutput) {
			b.user.RandRSetMonitor(b.user.Root(), xwire.RandRMonitorInfo{Name: must(b.user.Atom(name))(t), Primary: outputs != nil, Outputs: outputs,
				X: int16(r.x), Y: int16(r.y), Width: uint16(r.w), Height: uint16(r.h), WidthInMillimeters: 300, HeightInMillimeters: 200})
			if err := b.user.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		sees := func(want ...rect) {
			t.Helper()
			eventually(t, fmt.Sprint(len(want), " monitors"), func() bool {
				var got []rect
				for _, m := range must(b.app.RandRGetMonitors(b.app.Root(), true))(t).Monitors {
					got = append(got, rect{int(m.X), int(m.Y), int(m.Width), int(m.Height)})
				}
				return slices.Equal(got, want)
			})
		}
		left, right := rect{0, 0, 640, 800}, rect{640, 0, 640, 800}
		set("left", left, output) // else the server has one of its own besides
		set("right", right, nil)
		b.start()
		sees(left, right)
		b.user.RandRDeleteMonitor(b.user.Root(), must(b.user.Atom("right"))(t))
		upper, lower := rect{640, 0, 640, 400}, rect{640, 400, 640, 400}
		set("upper", upper, nil)
		set("lower", lower, nil)
		sees(left, upper, lower)
	})
}
