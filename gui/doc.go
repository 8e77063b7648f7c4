// Package gui is hither's window. It draws what the daemon says, and decides
// nothing.
package gui
