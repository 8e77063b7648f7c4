package xwire

import (
	"fmt"
	"testing"
)

func TestCursorAndSelection(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c, other := s.dial(XFixes, Render, XTest), s.dial()
		w := window(t, c, 100, 100, 0)
		c.XFixesSelectCursorInput(w, XFixesCursorNotifyMaskDisplayCursor)

		// A cursor made of a picture, shown, and read back.
		formats := must(c.RenderQueryPictFormats())(t)
		var argb RenderPictFormat
		for _, f := range formats.Formats {
			if f.Depth == 32 && f.Direct.AlphaMask == 0xff && f.Direct.AlphaShift == 24 {
				argb = f.Id
			}
		}
		if argb == 0 || len(formats.Screens) == 0 || len(formats.Screens[0].Depths) == 0 {
			t.Fatalf("formats %+v", formats)
		}
		pixmap, gc, picture, cursor := NewID[Pixmap](c), NewID[GContext](c), NewID[RenderPicture](c), NewID[Cursor](c)
		c.CreatePixmap(32, pixmap, Drawable(c.Root()), 4, 2)
		c.CreateGC(gc, Drawable(pixmap), GCValues{})
		pixels := []uint32{0xff102030, 0xff405060, 0x80203040, 0, 0xffffffff, 0xff000000, 0xff0000ff, 0xff00ff00}
		c.PutImage(ImageFormatZPixmap, Drawable(pixmap), gc, 4, 2, 0, 0, 0, 32, Uint32s(pixels...))
		c.RenderCreatePicture(picture, Drawable(pixmap), argb, RenderPictureValues{Mask: RenderCPRepeat, Repeat: RenderRepeatNone})
		c.RenderCreateCursor(cursor, picture, 3, 1)
		c.XFixesSetCursorName(cursor, "hither-test")
		c.ChangeWindowAttributes(w, WindowValues{Mask: CWCursor, Cursor: cursor})
		c.XTestFakeInput(6, 0, 0, c.Root(), 50, 50, 0)
		name := must(c.Atom("hither-test"))(t)
		await(t, c, func(e *XFixesCursorNotifyEvent) bool { return e.Name == name })
		image := must(c.XFixesGetCursorImageAndName())(t)
		if image.Width != 4 || image.Height != 2 || image.Xhot != 3 || image.Yhot != 1 || image.Name != "hither-test" || fmt.Sprint(image.CursorImage) != fmt.Sprint(pixels) {
			t.Errorf("cursor %+v", image)
		}

		// A selection taken, asked for and given.
		atoms := must(c.Atoms("CLIPBOARD", "UTF8_STRING", "HITHER_PASTE"))(t)
		clipboard, text, paste := atoms[0], atoms[1], atoms[2]
		c.XFixesSelectSelectionInput(w, clipboard, XFixesSelectionEventMaskSetSelectionOwner|XFixesSelectionEventMaskSelectionClientClose)
		ok(t, c.Sync())
		owner := NewID[Window](other)
		other.CreateWindow(0, owner, other.Root(), 0, 0, 1, 1, 0, WindowClassInputOnly, 0, WindowValues{})
		other.SetSelectionOwner(owner, clipboard, TimeCurrentTime)
		ok(t, other.Flush())
		e := await[*XFixesSelectionNotifyEvent](t, c, nil)
		if e.Owner != owner || e.Selection != clipboard || e.Subtype != XFixesSelectionEventSetSelectionOwner {
			t.Errorf("selection %+v", e)
		}
		if r := must(c.GetSelectionOwner(clipboard))(t); r.Owner != owner {
			t.Errorf("owner %#x", r.Owner)
		}
		c.ConvertSelection(w, clipboard, text, paste, e.Timestamp)
		ok(t, c.Flush())
		asked := await(t, other, func(e *SelectionRequestEvent) bool { return e.Requestor == w }) // Xvnc asks too
		other.ChangeProperty(PropModeReplace, asked.Requestor, asked.Property, asked.Target, 8, []byte("taken"))
		answer := SelectionNotifyEvent{Time: asked.Time, Requestor: asked.Requestor, Selection: asked.Selection, Target: asked.Target, Property: asked.Property}
		other.SendEvent(false, asked.Requestor, 0, answer.Encode())
		ok(t, other.Flush())
		if n := await[*SelectionNotifyEvent](t, c, nil); n.Property != paste || !n.Synthetic || n.Time != e.Timestamp {
			t.Errorf("answer %+v", n)
		}
		if p := must(c.GetProperty(true, w, paste, AtomAny, 0, 1000))(t); string(p.Value) != "taken" {
			t.Errorf("pasted %q", p.Value)
		}
		other.Close()
		if e := await[*XFixesSelectionNotifyEvent](t, c, nil); e.Subtype != XFixesSelectionEventSelectionClientClose {
			t.Errorf("selection %+v", e)
		}
	})
}

func TestShape(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := s.dial(Shape, XFixes)
		w := window(t, c, 100, 100, 0)
		c.ShapeSelectInput(w, true)
		want := []Rectangle{{X: 0, Y: 0, Width: 100, Height: 10}, {X: 20, Y: 10, Width: 30, Height: 40}}
		c.ShapeRectangles(ShapeSoSet, ShapeSkBounding, ClipOrderingUnsorted, w, 0, 0, want)
		if e := await[*ShapeNotifyEvent](t, c, nil); !e.Shaped || e.ShapeKind != ShapeSkBounding || e.AffectedWindow != w {
			t.Errorf("shape %+v", e)
		}
		r := must(c.ShapeGetRectangles(w, ShapeSkBounding))(t)
		if fmt.Sprint(r.Rectangles) != fmt.Sprint(want) {
			t.Errorf("shape %v, wanted %v", r.Rectangles, want)
		}
		q := must(c.ShapeQueryExtents(w))(t)
		if !q.BoundingShaped || q.ClipShaped || q.BoundingShapeExtentsHeight != 50 {
			t.Errorf("extents %+v", q)
		}
		// No input: what is under it gets the clicks.
		region := NewID[XFixesRegion](c)
		c.XFixesCreateRegion(region, nil)
		ok(t, c.XFixesSetWindowShapeRegionChecked(w, ShapeSkInput, 0, 0, region))
		if r := must(c.ShapeGetRectangles(w, ShapeSkInput))(t); len(r.Rectangles) != 0 {
			t.Errorf("input shape %v", r.Rectangles)
		}
	})
}

func TestMonitors(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := s.dial(RandR)
		c.RandRSelectInput(c.Root(), RandRNotifyMaskScreenChange)
		before := must(c.RandRGetMonitors(c.Root(), true))(t)
		if len(before.Monitors) == 0 || before.Monitors[0].Width != c.Screen().WidthInPixels {
			t.Errorf("monitors %+v", before)
		}
		names := must(c.Atoms("HITHER-1", "HITHER-2"))(t)
		outputs := must(c.RandRGetScreenResourcesCurrent(c.Root()))(t).Outputs
		info := must(c.RandRGetOutputInfo(outputs[0], 0))(t)
		if len(info.Name) == 0 || info.Connection != RandRConnectionConnected {
			t.Errorf("output %+v", info)
		}
		ok(t, c.RandRSetMonitorChecked(c.Root(), RandRMonitorInfo{Name: names[0], Primary: true, Width: 600, Height: 700, WidthInMillimeters: 160, HeightInMillimeters: 190, Outputs: outputs[:1]}))
		ok(t, c.RandRSetMonitorChecked(c.Root(), RandRMonitorInfo{Name: names[1], X: 600, Width: 300, Height: 700, WidthInMillimeters: 80, HeightInMillimeters: 190}))
		after := must(c.RandRGetMonitors(c.Root(), true))(t)
		found := map[Atom]RandRMonitorInfo{}
		for _, m := range after.Monitors {
			found[m.Name] = m
		}
		if m := found[names[0]]; !m.Primary || m.Width != 600 || len(m.Outputs) != 1 {
			t.Errorf("monitors %+v", after)
		}
		if m := found[names[1]]; m.Primary || m.X != 600 || m.WidthInMillimeters != 80 {
			t.Errorf("monitors %+v", after)
		}
		ok(t, c.RandRDeleteMonitorChecked(c.Root(), names[1]))
	})
}

// Redirected windows, their pixmaps, and who they belong to.
func TestComposite(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c, app := s.dial(Composite, Res, Sync), s.dial()
		ok(t, c.CompositeRedirectSubwindowsChecked(c.Root(), CompositeRedirectManual))
		ok(t, c.ChangeWindowAttributesChecked(c.Root(), WindowValues{Mask: CWEventMask, EventMask: EventMaskSubstructureNotify | EventMaskSubstructureRedirect}))
		w := NewID[Window](app)
		app.CreateWindow(0, w, app.Root(), 5, 6, 30, 20, 0, WindowClassInputOutput, 0, WindowValues{Mask: CWBackPixel, BackgroundPixel: 0x00345678})
		app.MapWindow(w)
		ok(t, app.Flush())
		if e := await[*CreateNotifyEvent](t, c, nil); e.Window != w || e.Width != 30 {
			t.Errorf("created %+v", e)
		}
		if e := await[*MapRequestEvent](t, c, nil); e.Window != w {
			t.Errorf("wants to be mapped: %+v", e)
		}
		c.MapWindow(w)
		await(t, c, func(e *MapNotifyEvent) bool { return e.Window == w })
		pixmap := NewID[Pixmap](c)
		ok(t, c.CompositeNameWindowPixmapChecked(w, pixmap))
		r := must(c.GetImage(ImageFormatZPixmap, Drawable(pixmap), 29, 19, 1, 1, 0xffffffff))(t)
		if ToUint32s(r.Data)[0]&0xffffff != 0x345678 {
			t.Errorf("pixel %#x", r.Data)
		}
		ids := must(c.ResQueryClientIds([]ResClientIdSpec{{Client: uint32(w), Mask: ResClientIdMaskLocalClientPID}}))(t)
		if len(ids.Ids) != 1 || len(ids.Ids[0].Value) != 1 {
			t.Errorf("client %+v", ids)
		}
		counter := NewID[SyncCounter](c)
		c.SyncCreateCounter(counter, SyncInt64{Hi: 1, Lo: 2})
		c.SyncChangeCounter(counter, SyncInt64{Lo: 5})
		if q := must(c.SyncQueryCounter(counter))(t); q.CounterValue != (SyncInt64{Hi: 1, Lo: 7}) {
			t.Errorf("counter %+v", q)
		}
		alarm := NewID[SyncAlarm](c)
		c.SyncCreateAlarm(alarm, SyncAlarmValues{Mask: SyncCACounter | SyncCAValue | SyncCATestType | SyncCADelta | SyncCAEvents,
			Counter: counter, Value: SyncInt64{Hi: 1, Lo: 9}, TestType: SyncTestTypePositiveComparison, Delta: SyncInt64{Lo: 1}, Events: 1})
		c.SyncSetCounter(counter, SyncInt64{Hi: 1, Lo: 9})
		if e := await[*SyncAlarmNotifyEvent](t, c, nil); e.Alarm != alarm || e.CounterValue.Lo != 9 {
			t.Errorf("alarm %+v", e)
		}
	})
}
