package bridge

import (
	"context"
	"time"

	"hither/engine/display/xwire"
)

// hangUpWithin is how long the app's server may take to close its end.
const hangUpWithin = 500 * time.Millisecond

// attach takes hold of the app, for the first time or again. Native windows that
// are there already are used again.
func (b *Bridge) attach(ctx context.Context) error {
	b.features, b.progress.text = nil, ""
	if err := b.openApp(ctx); err != nil {
		return err
	}
	if err := b.releaseForgotten(); err != nil {
		return err
	}
	if err := b.playTyped(); err != nil {
		return err
	}
	b.grab, b.top, b.over = grab{}, nil, nil
	root := b.App.Root()
	where, err := b.App.GetProperty(false, root, b.a["_HITHER_DESKTOP"], b.a["UTF8_STRING"], 0, 256)
	if err != nil {
		return err
	}
	b.arrived = where.Type != 0 && string(where.Value) != b.screen.id
	active, err := b.App.GetProperty(false, root, b.a["_NET_ACTIVE_WINDOW"], xwire.AtomWindow, 0, 1)
	if err != nil {
		return err
	}
	if p := (property{active.Type, active.Format, active.Value}).numbers(1); p != nil && b.focus == nil {
		b.active = xwire.Window(p[0])
	}
	tree, err := b.App.QueryTree(root)
	if err != nil {
		return err
	}
	if err := b.judgeTree(tree.Children); err != nil {
		return err
	}
	b.mirrorScreen()
	b.makeFeatures()
	b.order, b.popups = nil, nil
	old, shown := b.windows, len(b.windows) > 0
	b.windows = map[xwire.Window]*window{}
	attributes := make([]xwire.Cookie[xwire.GetWindowAttributesReply], len(tree.Children))
	for i, app := range tree.Children {
		attributes[i] = b.App.GetWindowAttributesAsync(app)
	}
	for i, app := range tree.Children { // from the bottom to the top
		a, err := attributes[i].Wait()
		if err != nil || a.MapState == xwire.MapStateUnmapped {
			continue
		}
		if w := old[app]; w != nil && !w.popup {
			delete(old, app)
			b.again(w)
			continue
		}
		b.manage(app, true)
	}
	for _, w := range old {
		b.drop(w, true)
	}
	if !shown {
		b.wakeActive()
	}
	b.App.ChangeProperty(xwire.PropModeReplace, root, b.a["_HITHER_DESKTOP"], b.a["UTF8_STRING"], 8, []byte(b.screen.id))
	b.focusAgain()
	if b.arriving {
		b.after(arriveWithin, func() { b.arrive(nil) }) //nolint:errcheck // the loop sees its cause
	}
	return b.settle()
}

// focusAgain tells the app of the focus that a window of its has had all the time.
func (b *Bridge) focusAgain() {
	if focus := b.focus; focus != nil {
		b.focus = nil
		b.focusIn(focus)
		b.askHeld()
	} else {
		b.after(focusWithin, b.checkFocus)
	}
}

// again shows in a native window what is going on in its app's window.
func (b *Bridge) again(w *window) {
	now := b.meet(w.app)
	if now == nil {
		b.drop(w, true)
		return
	}
	w.at, w.want, w.border, w.depth = now.at, now.at, now.border, now.depth
	b.windows[w.app] = w
	b.order = append(b.order, w)
	b.dress(w, b.readProperties(w))
	b.copyShape(w)
	for _, name := range []string{"_NET_WM_STATE", "_NET_FRAME_EXTENTS", "WM_STATE"} {
		b.deskProperty(w, b.d[name]) // it may have changed meanwhile
	}
	b.follow(w)
	b.appears(w)
	b.Desk.ChangeWindowAttributes(w.desk, xwire.WindowValues{Mask: xwire.CWBackPixmap})
	if w.last != 0 {
		b.Desk.FreePixmap(w.last)
		w.last = 0
	}
}

// letGo ends all that the app's server holds of the bridge, so that it can be
// frozen. The native windows stay, with their last pictures.
func (b *Bridge) letGo() {
	b.keepHeld()
	b.releaseKeys()
	b.releaseButtons()
	if b.grab.held {
		b.Desk.UngrabPointer(0)
		b.grab.held = false
	}
	for _, f := range b.features {
		f.letGo()
	}
	for len(b.popups) > 0 {
		// The app will show it again where it is then.
		b.drop(b.popups[0], false)
	}
	b.noteStack()
	b.keepPictures()
	b.unshare()
	for _, w := range b.windows {
		b.loseApp(w, true)
	}
	b.App.Sync() //nolint:errcheck // what cannot be said is over anyway
	// The server closes its end when it has heard of the end of ours.
	if b.socket.CloseWrite() == nil {
		select {
		case <-b.App.Done():
		case <-time.After(hangUpWithin):
		}
	}
	b.App.Close()
	b.App = nil
	b.paint.forget()
	b.onAppTime = nil
}

// keepPictures copies all windows' pictures to the desktop's server.
func (b *Bridge) keepPictures() {
	d, p := b.Desk, &b.paint
	if p.busy {
		d.Sync() //nolint:errcheck // then it is the last picture anyway
	}
	for _, w := range b.order {
		if w.pixmap == 0 {
			continue
		}
		all := w.picture()
		if b.scale == 1 {
			all = all.intersect(rect{0, 0, w.place.w, w.place.h})
		}
		size := 4 * all.w * all.h
		if b.share(size); p.memory != nil && p.size < size {
			continue
		}
		w.last = xwire.NewID[xwire.Pixmap](d)
		d.CreatePixmap(w.native, w.last, xwire.Drawable(w.desk), clipSize(w.place.w), clipSize(w.place.h))
		to := xwire.Drawable(w.last)
		if b.scale != 1 {
			s, _ := b.sourceOf(w)
			to = xwire.Drawable(s.pixmap)
		}
		if p.memory != nil {
			if _, err := b.App.ShmGetImage(xwire.Drawable(w.pixmap), 0, 0, uint16(all.w), uint16(all.h), 0xffffffff, uint8(xwire.ImageFormatZPixmap), p.appSeg, 0); err != nil {
				continue
			}
			d.ShmPutImage(to, w.gc, uint16(all.w), uint16(all.h), 0, 0, uint16(all.w), uint16(all.h), 0, 0, w.native,
				uint8(xwire.ImageFormatZPixmap), false, p.deskSeg, 0)
			d.Sync() //nolint:errcheck // the memory is used again
		} else {
			rows := max(1, maxStrip/(4*all.w))
			for y := 0; y < all.h; y += rows {
				part := rect{0, y, all.w, min(rows, all.h-y)}
				image, err := b.App.GetImage(xwire.ImageFormatZPixmap, xwire.Drawable(w.pixmap), 0, clip16(y), uint16(part.w), uint16(part.h), 0xffffffff)
				if err != nil || len(image.Data) < 4*part.w*part.h {
					break
				}
				b.put(to, w, part, image.Data[:4*part.w*part.h])
			}
		}
		if b.scale != 1 {
			last := xwire.NewID[xwire.RenderPicture](d)
			d.RenderCreatePicture(last, xwire.Drawable(w.last), b.look(w).format, xwire.RenderPictureValues{})
			b.stretch(w, last, all)
			d.RenderFreePicture(last)
		}
	}
}

// dim darkens the last pictures and lets the desktop's server show them by itself.
func (b *Bridge) dim() {
	d := b.Desk
	for _, w := range b.order {
		if w.last == 0 {
			continue
		}
		if format := b.look(w).format; format != 0 {
			picture := xwire.NewID[xwire.RenderPicture](d)
			d.RenderCreatePicture(picture, xwire.Drawable(w.last), format, xwire.RenderPictureValues{})
			d.RenderFillRectangles(xwire.RenderPictOpAtop, picture, xwire.RenderColor{Alpha: 0x7000},
				[]xwire.Rectangle{{Width: clipSize(w.place.w), Height: clipSize(w.place.h)}})
			d.RenderFreePicture(picture)
		}
		d.ChangeWindowAttributes(w.desk, xwire.WindowValues{Mask: xwire.CWBackPixmap, BackgroundPixmap: w.last})
		d.ClearArea(false, w.desk, 0, 0, 0, 0)
	}
}
