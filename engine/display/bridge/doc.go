// Package bridge shows the windows of a capsule's X server, the app's, on the
// user's desktop.
//
// In a nutshell: the bridge is a client of two X servers. In the app's it is the
// window manager and the compositing manager: it decides where windows are, and
// each window's picture lies in a pixmap of its own. For each top-level window
// there, it has one of its own on the desktop, of the same size and at the same
// place of the root window, so that menus open where they should.
//
//	the app's window  ----- picture, properties, wishes ----->  native window
//	                  <---- place, focus, keys, pointer ------
//
// Pictures: Damage says what has changed; the app's server writes just that into
// a piece of memory that both servers share, the desktop's server takes it from
// there, and the bridge touches no pixel (paint.go). Input: what a native window
// gets is played to the app's server by XTEST, keycode by keycode (input.go). Apps
// scroll by whole steps of the wheel: no device of Xvfb has an axis for it (21.1:
// XIQueryDevice tells of two axes each and of no class "scroll"), nor can one be
// added. The desktop's server makes steps of what a touchpad does. What
// an app tells of its windows is copied to the native ones (property.go), and so
// the desktop's window manager decides as it does for all others; its decisions
// are told to the app.
//
// Life: Run waits for the desktop, takes hold of the app, and serves until the
// keeper says otherwise (run.go, leave.go). All that must outlive a bridge is kept in the app's
// server: where windows are, their states, which one was active (the properties
// that window managers keep), on which desktop that was (_HITHER_DESKTOP on the
// root window) and where a maximised window goes back to (_HITHER_NORMAL). So a bridge can
// be killed at any moment, and the next one, here or on another host, goes on.
//
// What else a desktop shares with the app - the keymap, the clipboard, the
// settings - are features (feature.go), which plug into the same life.
//
// Windows can vanish at any moment. Requests about them then fail, which is
// ignored; the event that says so follows.
//
// One goroutine owns everything; there are no locks. Others hand it functions
// (Bridge.do). At rest it sleeps in one select, without a timer.
package bridge
