// Package tray is hither's icon in the desktop's tray, with its menu.
//
// In a nutshell: a Tray is a StatusNotifierItem on the session bus (item.go), with a menu
// that speaks com.canonical.dbusmenu (menu.go). Show is given what there is to see, as a
// Look, and tells the desktop what has changed of it, and nothing where nothing has; LookOf
// makes a Look of a Snapshot of what the daemon said (look.go), and Follow keeps the Snapshot
// true by the daemon's stream of events (follow.go).
//
//	daemon --events--> Follow --Snapshot--> LookOf --Look--> Tray.Show --bus--> the desktop's panel
//	                                                 Item.Do <-- a click --
//
// Desktops without a tray have nobody who watches for such icons: Hosted tells, and OnHosted
// hears when that changes.
//
// It is not made by the window's toolkit, whose tray takes a whole new menu for each change of
// a label, does not know whether a desktop shows it, and has no icon names, by which panels
// draw an icon in their own colour.
//
// A Tray may be used by any goroutine. Functions that it calls (Item.Do, OnHosted ...) run on
// goroutines of their own. Lock order: Follower.mu; Tray.mu, menu.mu.
package tray
