package bridge

import (
	"strings"

	"hither/engine/display/xwire"
)

// overtaken says whether an event need not be looked at, for the next one says
// the same for a later moment.
func overtaken(ev, next xwire.Event) bool {
	a, ok := ev.(*xwire.MotionNotifyEvent)
	n, ok2 := next.(*xwire.MotionNotifyEvent)
	return ok && ok2 && a.Event == n.Event && a.State == n.State
}

// deskEvent deals with an event of the desktop.
func (b *Bridge) deskEvent(ev xwire.Event) {
	switch ev := ev.(type) {
	case *xwire.KeyPressEvent:
		b.key(b.native[ev.Event], ev.Detail, true)
	case *xwire.KeyReleaseEvent:
		b.key(b.native[ev.Event], ev.Detail, false)
	case *xwire.ButtonPressEvent:
		b.seenAt(ev.Event, int(ev.RootX)-int(ev.EventX), int(ev.RootY)-int(ev.EventY))
		b.button(ev.Event, ev.Detail, true, ev.EventX, ev.EventY)
	case *xwire.ButtonReleaseEvent:
		b.button(ev.Event, ev.Detail, false, ev.EventX, ev.EventY)
	case *xwire.MotionNotifyEvent:
		b.seenAt(ev.Event, int(ev.RootX)-int(ev.EventX), int(ev.RootY)-int(ev.EventY))
		b.motion(ev.Event, ev.EventX, ev.EventY)
	case *xwire.EnterNotifyEvent:
		if ev.Mode == xwire.NotifyModeNormal || ev.Mode == xwire.NotifyModeUngrab {
			b.seenAt(ev.Event, int(ev.RootX)-int(ev.EventX), int(ev.RootY)-int(ev.EventY))
			b.motion(ev.Event, ev.EventX, ev.EventY)
		}
	case *xwire.LeaveNotifyEvent:
		b.leave(ev)
	case *xwire.FocusInEvent:
		if w := b.native[ev.Event]; w != nil && ev.Detail != xwire.NotifyDetailPointer && ev.Mode != xwire.NotifyModeGrab {
			b.focusIn(w)
		}
	case *xwire.FocusOutEvent:
		if w := b.native[ev.Event]; w != nil && ev.Detail != xwire.NotifyDetailPointer && ev.Detail != xwire.NotifyDetailInferior {
			b.focusOut(w, ev.Mode)
		}
	case *xwire.KeymapNotifyEvent:
		b.heldKeys(ev.Keys)
	case *xwire.MappingNotifyEvent:
		b.input.modifiers = nil
	case *xwire.ExposeEvent:
		if w := b.native[ev.Window]; w != nil {
			if b.App == nil && ev.Count == 0 {
				b.showProgress(w)
				return
			}
			w.parts = append(w.parts, (1 / b.scale).cover(rect{int(ev.X), int(ev.Y), int(ev.Width), int(ev.Height)}))
		}
	case *xwire.MapNotifyEvent:
		if w := b.native[ev.Window]; w != nil {
			w.viewable = true
			if w.pinned {
				w.pinned, w.wasPinned = false, true
				b.setSizeHints(w)
			}
		}
	case *xwire.UnmapNotifyEvent:
		if w := b.native[ev.Window]; w != nil {
			w.viewable = false
		}
	case *xwire.ReparentNotifyEvent:
		if w := b.native[ev.Window]; w != nil {
			w.framed = ev.Parent != b.Desk.Root()
			w.unplaced = true
		}
	case *xwire.ConfigureNotifyEvent:
		if w := b.native[ev.Window]; w != nil {
			b.placed(w, ev)
		}
	case *xwire.PropertyNotifyEvent:
		if w := b.native[ev.Window]; w != nil {
			b.deskProperty(w, ev.Atom)
		} else if ev.Window == b.Desk.Root() && ev.Atom == b.d["_NET_WORKAREA"] {
			b.rescreen()
		}
	case *xwire.RandRScreenChangeNotifyEvent:
		b.rescreen()
	case *xwire.ClientMessageEvent:
		if w := b.native[ev.Window]; w != nil {
			b.deskMessage(w, ev)
		}
	case *xwire.ShmCompletionEvent:
		b.paint.busy = false
	case *xwire.Error:
		b.log.Debug("of the desktop", "error", ev)
		if strings.HasPrefix(ev.Request, xwire.Shm.Name()) {
			b.paint.busy = false // it may be the picture whose end is awaited
		}
	}
}

func (b *Bridge) rescreen() {
	if b.readScreen() == nil && b.App != nil {
		b.mirrorScreen()
	}
}

// placed is told of a native window's place. The window manager says where it is
// on the root window by synthetic events; the server's own are of the frame.
func (b *Bridge) placed(w *window, ev *xwire.ConfigureNotifyEvent) {
	if w.popup {
		return // it is where the bridge has put it
	}
	resized := w.place.w != int(ev.Width) || w.place.h != int(ev.Height)
	w.place.w, w.place.h = int(ev.Width), int(ev.Height)
	if resized && b.App != nil && b.blackens(w) {
		b.copyShape(w)
	}
	w.sync.sized = w.sync.asked != 0
	if ev.Synthetic || !w.framed {
		w.place.x, w.place.y = int(ev.X), int(ev.Y)
		w.unplaced = false
	} else {
		w.unplaced = true
	}
	if !w.unplaced {
		b.follow(w)
	}
}

// seenAt learns from an event of the pointer's where a native window is, for
// window managers that have moved a frame and told nobody.
func (b *Bridge) seenAt(native xwire.Window, x, y int) {
	if w := b.native[native]; w != nil && !w.popup && (w.place.x != x || w.place.y != y) {
		w.place.x, w.place.y = x, y
		b.follow(w)
	}
}

// settle does what is done once for all events that have come together.
func (b *Bridge) settle() error {
	var asked []*window
	var cookies []xwire.Cookie[xwire.TranslateCoordinatesReply]
	for _, w := range b.order {
		// A frame that is not seen may be anywhere, and one that appears again may be
		// in the midst of an animation: such a window is where it was.
		if w.iconic {
			w.unplaced = false
		}
		if w.unplaced {
			asked = append(asked, w)
			cookies = append(cookies, b.Desk.TranslateCoordinatesAsync(w.desk, b.Desk.Root(), 0, 0))
		}
	}
	for i, w := range asked {
		r, err := cookies[i].Wait()
		if err != nil {
			continue
		}
		w.unplaced = false
		w.place.x, w.place.y = int(r.DstX), int(r.DstY)
		b.follow(w)
	}
	if err := b.paintAll(); err != nil {
		return err
	}
	b.answerSync()
	return nil
}
