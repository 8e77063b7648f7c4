// Package display is what a capsule has of a desktop: an X server and a session
// bus inside, and the bridge outside that shows the app's windows.
//
// In a nutshell: when a capsule is made, two unix sockets listen in it, one where
// X clients look for display :0 and one where they look for the session bus
// (Listen). Pid 1 holds them; nobody serves them. The keeper (package capsule)
// waits for the first caller of each, and then starts the server, which takes the
// socket, callers in it included, as systemd would hand it over. So an app
// without windows costs two sockets. Both servers live inside and move with the
// app, their sockets are pid 1's and move with it too.
//
//	app --/tmp/.X11-unix/X0--> Xvfb <--the same, from outside-- bridge --> the desktop
//
// The bridge is a process of its own, one per capsule, started by the keeper as
// soon as the X server runs, and again if it dies. It hears from the keeper over
// a control socket (control.go): before the app is frozen it must let go, for a
// connection to the outside cannot move.
//
// What a bridge shows and how is package bridge; the wire is package xwire.
// There are no locks but that of Bridge, under which nothing blocks.
package display
