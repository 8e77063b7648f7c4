package notify

import (
	"errors"
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
esac
for folder in /usr/local/bin /usr/bin /bin; do
	[ -x "$folder/xdg-open" ] && exec "$folder/xdg-open" "$@"
done
echo "xdg-open: neither gdbus (package libglib2.0-bin) nor dbus-send (package dbus-bin) is there to ask the desktop, nor xdg-utils" >&2
exit 3
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
	err = errors.Join(r.MkdirAll(services, 0o700), r.MkdirAll(links, 0o700))
	if err == nil {
		err = errors.Join(
			write(r, path.Join(services, notificationsName+".service"), fmt.Sprintf(waiter, notificationsName), 0o600),
			write(r, path.Join(services, portalName+".service"), fmt.Sprintf(waiter, portalName), 0o600),
			write(r, path.Join(links, "xdg-open"), opener, 0o700))
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
	next := name + ".new"
	if err := r.WriteFile(next, []byte(text), mode); err != nil {
		return err
	}
	return r.Rename(next, name)
}
