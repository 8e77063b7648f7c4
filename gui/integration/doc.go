// Package integration is what makes the window a good citizen of the desktop: one instance of
// it (single.go), its start with the session (autostart.go), and what is told by the desktop's
// notifications while nobody looks at the window (notify.go, notices.go).
//
// It knows no widgets. Lock order: Notifier.mu alone.
package integration
