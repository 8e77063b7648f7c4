// Package xwire speaks the X11 protocol as a client, to any number of servers
// at once.
//
// In a nutshell: a Conn is one connection. Each request of the protocol and of
// its extensions is a method, generated from Debian's xcb-proto (see gen).
// Those without a reply are gathered and sent by the next Flush, or with the
// next request that is waited for. A receiver goroutine reads everything that
// the server sends: replies go to whoever waits for them; events, and errors of
// requests that nobody waits for, go into one queue in the server's order.
// Where the server has put its extensions is known by each Conn alone; nothing
// of it is global.
//
//	c, err := xwire.Dial(ctx, "", "")            // $DISPLAY, $XAUTHORITY
//	c, err := xwire.DialPath(ctx, "/proc/PID/root/tmp/.X11-unix/X0")
//	defer c.Close()
//	err = c.Use(xwire.Composite, xwire.Damage, xwire.XFixes)
//
// Requests:
//
//	win := xwire.NewID[xwire.Window](c)
//	c.CreateWindow(0, win, c.Root(), 0, 0, 200, 100, 0, xwire.WindowClassInputOutput, 0,
//		xwire.WindowValues{Mask: xwire.CWEventMask, EventMask: xwire.EventMaskKeyPress})
//	c.MapWindow(win)                             // gathered
//	err = c.Flush()                              // sent
//	err = c.MapWindowChecked(win)                // sent, and waited for
//	geometry, err := c.GetGeometry(xwire.Drawable(win))
//	if errors.Is(err, xwire.ErrDrawable) { ... } // the window has gone
//
// Many questions in one round trip:
//
//	a, b := c.GetGeometryAsync(x), c.GetGeometryAsync(y)
//	ga, err := a.Wait()
//	gb, err := b.Wait()
//
// Properties of format 32 are written by Uint32s and read by ToUint32s; atoms
// are remembered by Atoms and AtomNames:
//
//	state, err := c.Atom("WM_STATE")
//	c.ChangeProperty(xwire.PropModeReplace, win, state, state, 32, xwire.Uint32s[uint32](1, 0))
//
// Messages to other clients:
//
//	m := xwire.ClientMessageEvent{Format: 32, Window: win, Type: protocols, Data: xwire.MessageData(uint32(del), now)}
//	c.SendEvent(false, win, 0, m.Encode())
//
// Events of one connection:
//
//	for {
//		ev, err := c.NextEvent(ctx)
//		if err != nil { ... }
//		switch ev := ev.(type) {
//		case *xwire.DamageNotifyEvent: // ev.Area
//		case *xwire.Error:             // an unchecked request failed
//		}
//	}
//
// and of two, where all that has come is dealt with at once, so that motions
// can be merged, and what follows from it leaves in one piece:
//
//	for {
//		select {
//		case <-a.Ready():
//			events, err := a.TakeEvents()
//		case <-b.Ready():
//			events, err := b.TakeEvents()
//		}
//		a.Flush()
//		b.Flush()
//	}
//
// Shared memory is a file: ShmAttachFd sends it, and it may be closed after the
// call; ShmCreateSegment receives one, which is the caller's to close.
//
// A server that is stopped, for instance because its capsule is frozen, holds
// nobody up for ever: waiting ends after SetTimeout's time with ErrTimeout, and
// Flush ends the connection if the server does not read. Close ends everything
// at once from any goroutine.
//
// What a server sends is not trusted: sizes are checked before memory is taken
// for them, replies and the queue of events are bounded, and a message that
// contradicts itself is an error or an UnknownEvent.
//
// Lock order: idSource.mu, Conn.useMu, Conn.out, Conn.in. The
// receiver takes Conn.in only, so that it reads on while others wait to write.
// atomCache.mu is held for nothing but its maps.
package xwire

//go:generate go run ./gen -out .
