package notify

import (
	"fmt"
	"os"
	"path"
	"strings"

	"hither/engine/display"
)

// waiter is a service that the capsule's bus starts when somebody calls a name
// that nobody has yet: it only waits, and the bus holds the call back until the
// bridge has come and taken the name. It also keeps the bus from starting what the
// host's files name, such as another notification daemon inside.
const waiter = `[D-BUS Service]
Name=%s
Exec=/bin/sh -c "sleep 5; exit 1"
`

// opener hands links to the desktop. All else is opened inside, as ever.
const opener = `#!/bin/sh
if [ -n "$HITHER_LINK" ]; then
	exit 3 # asked by what was asked below
fi
export HITHER_LINK=1
case "$1" in
[Hh][Tt][Tt][Pp]://* | [Hh][Tt][Tt][Pp][Ss]://* | [Mm][Aa][Ii][Ll][Tt][Oo]:*)
	if command -v gdbus >/dev/null; then
		gdbus call --session --dest org.freedesktop.portal.Desktop --object-path /org/freedesktop/portal/desktop --method hither.Links.Open "$1" >/dev/null
		exit
	elif command -v dbus-send >/dev/null; then
		dbus-send --session --print-reply=literal --dest=org.freedesktop.portal.Desktop /org/freedesktop/portal/desktop hither.Links.Open string:"$1"
		exit
	fi
	;;
*)
	unset HITHER_LINK
	;;
esac
for folder in /usr/local/bin /usr/bin /bin; do
	[ -x "$folder/xdg-open" ] && exec "$folder/xdg-open" "$@"
done
echo "xdg-open: neither gdbus (package libglib2.0-bin) nor dbus-send (package dbus-bin) is there to ask the desktop, nor xdg-utils" >&2
exit 3
`

// handler and handlers make that xdg-open what GLib opens links with, unless the
// person has chosen a browser by name; which then runs inside.
const handler = `[Desktop Entry]
Type=Application
Name=The desktop's browser
Exec=xdg-open %u
NoDisplay=true
MimeType=x-scheme-handler/http;x-scheme-handler/https;x-scheme-handler/mailto;
`

const handlers = `[Default Applications]
x-scheme-handler/http=hither-links.desktop
x-scheme-handler/https=hither-links.desktop
x-scheme-handler/mailto=hither-links.desktop
`

// Prepare makes the files by which apps find what Notify offers, in a capsule's
// runtime folder. root is the capsule's root folder as seen from outside, which
// links inside do not lead out of. Done again it does no harm.
func Prepare(root, runtime string) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return fmt.Errorf("preparing the capsule for notifications and links: %w", err)
	}
	defer r.Close()
	runtime = strings.TrimPrefix(runtime, "/")
	services := path.Join(runtime, "dbus-1/services") // dbus-daemon(1), transient services
	links := path.Join(runtime, display.Links)
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{path.Join(services, notificationsName+".service"), fmt.Sprintf(waiter, notificationsName), 0o600},
		{path.Join(services, portalName+".service"), fmt.Sprintf(waiter, portalName), 0o600},
		{path.Join(links, "share/applications/hither-links.desktop"), handler, 0o600},
		{path.Join(links, "xdg/mimeapps.list"), handlers, 0o600},
		{path.Join(links, "xdg-open"), opener, 0o700},
	} {
		if err = write(r, f.name, f.text, f.mode); err != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("preparing the capsule for notifications and links: %w", err)
	}
	return nil
}

// write puts a file in its place at once, for it may be in use.
func write(r *os.Root, name, text string, mode os.FileMode) error {
	if old, err := r.ReadFile(name); err == nil && string(old) == text {
		return nil
	}
	if err := r.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	next := name + ".new"
	if err := r.WriteFile(next, []byte(text), mode); err != nil {
		return err
	}
	return r.Rename(next, name)
}
