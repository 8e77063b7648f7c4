// Package assets has hither's icons within its programs, so that a program that was only copied shows them, too.
package assets

import "embed"

// Icons is hither's part of an icon theme: the folder icons/hicolor.
//
//go:embed icons/hicolor
var Icons embed.FS

// AppIcon is the icon of the app as PNG, 256 pixels wide.
//
//go:embed icons/hicolor/256x256/apps/hither.png
var AppIcon []byte

// AppDrawing is the same as SVG.
//
//go:embed icons/hicolor/scalable/apps/hither.svg
var AppDrawing []byte

// Desktop is the desktop file of the window.
//
//go:embed hither-gui.desktop
var Desktop []byte
