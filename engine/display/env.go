package display

import "path"

// Links is the folder, below a capsule's runtime folder, with the xdg-open that
// hands links to the desktop, and with what makes it the one that opens them
// (package notify).
const Links = "hither-links"

// Searched are variables with folders that apps look in: what they mean where
// they are not set, and the folder below Links that comes first in them.
var Searched = []struct{ Name, Usual, Below string }{
	{"PATH", "", ""},
	{"XDG_DATA_DIRS", "/usr/local/share:/usr/share", "share"},
	{"XDG_CONFIG_DIRS", "/etc/xdg", "xdg"},
}

// Env is what apps are told of a capsule's desktop. The host's own variables of
// these names must be gone.
//
// Beside the addresses it keeps toolkits from what a capsule does not have:
// Wayland, the accessibility bus, the portals; and from gvfs, whose daemons mount
// FUSE file systems. Java does not draw a window that waits for a frame, and there
// are none inside.
func Env(runtimeDir string) []string {
	return []string{
		"DISPLAY=:0",
		"DBUS_SESSION_BUS_ADDRESS=unix:path=" + path.Join(runtimeDir, "bus"),
		"XDG_SESSION_TYPE=x11",
		"GDK_BACKEND=x11",
		"QT_QPA_PLATFORM=xcb",
		"NO_AT_BRIDGE=1",
		"GTK_A11Y=none",
		"QT_ACCESSIBILITY=0",
		"GTK_USE_PORTAL=0",
		"GIO_USE_VFS=local",
		"BROWSER=xdg-open",
		"_JAVA_AWT_WM_NONREPARENTING=1",
	}
}

// NoEnv is that for a capsule without: an app that asks for a bus all the same
// does not start one by itself.
func NoEnv() []string {
	return []string{"DBUS_SESSION_BUS_ADDRESS=disabled:", "NO_AT_BRIDGE=1", "GTK_A11Y=none"}
}

// HostEnv are the variables of a host's desktop, which mean nothing inside.
var HostEnv = []string{
	"DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET", "XAUTHORITY", "WINDOWID", "DESKTOP_STARTUP_ID", "XDG_ACTIVATION_TOKEN",
	"SESSION_MANAGER", "DBUS_SESSION_BUS_ADDRESS", "DBUS_SESSION_BUS_PID", "DBUS_SESSION_BUS_WINDOWID", "DBUS_STARTER_ADDRESS",
	"DBUS_STARTER_BUS_TYPE", "AT_SPI_BUS_ADDRESS", "XDG_SESSION_TYPE", "GDK_BACKEND", "QT_QPA_PLATFORM", "NO_AT_BRIDGE",
	"GTK_A11Y", "QT_ACCESSIBILITY", "QT_LINUX_ACCESSIBILITY_ALWAYS_ON", "GTK_USE_PORTAL", "GIO_USE_VFS", "BROWSER", "CLUTTER_BACKEND",
	"SDL_VIDEODRIVER", "MOZ_ENABLE_WAYLAND", "ELECTRON_OZONE_PLATFORM_HINT", "GIO_LAUNCHED_DESKTOP_FILE",
	"GIO_LAUNCHED_DESKTOP_FILE_PID", "GDK_SCALE", "GDK_DPI_SCALE", "QT_SCALE_FACTOR", "QT_SCREEN_SCALE_FACTORS",
	"_JAVA_AWT_WM_NONREPARENTING",
}

// DesktopEnv are those by which a program outside finds the desktop.
var DesktopEnv = []string{"DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"}
