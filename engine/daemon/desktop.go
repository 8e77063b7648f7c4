package daemon

import (
	"context"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"hither/engine/capsule"
	"hither/engine/control"
)

// The desktop of this host is the one where hither was last used. Before it was used, or
// when that desktop has ended, it is the one that the daemon was started on, or that the
// user's session manager tells new services of.

// An app may live here without a desktop for its windows: the daemon that took it in,
// or the command that started it, ran without one (at boot, by ssh), or the desktop
// has ended since. Such an app comes to the desktop where a person next uses hither.

// desktopPatience is for a keeper to take a desktop.
const desktopPatience = 5 * time.Second

// meeting notes where requests come from.
func (d *Daemon) meeting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if env := control.Desktop(r.Header); env != nil {
			d.mu.Lock()
			d.desktop = env
			first := !d.showing
			d.showing = true
			d.mu.Unlock()
			if first {
				// The request does not wait for it.
				d.work.Go(func() {
					d.showAll()
					d.mu.Lock()
					d.showing = false
					d.mu.Unlock()
				})
			}
		}
		next.ServeHTTP(w, r)
	})
}

// atDesktop is this host's desktop, nil if there is none.
func (d *Daemon) atDesktop() []string {
	d.mu.Lock()
	used, began := d.desktop, d.began
	d.mu.Unlock()
	for _, env := range [][]string{used, began} {
		if reachable(displayOf(env)) {
			return env
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.looked) < desktopPause {
		return nil
	}
	d.looked = time.Now()
	d.work.Go(func() {
		if env := control.DesktopOf(sessionEnvironment(d.ctx)); env != nil {
			d.mu.Lock()
			d.began = env
			d.mu.Unlock()
			d.showAll()
		}
	})
	return nil
}

// desktopPause is between two questions to the session manager.
const desktopPause = 5 * time.Second

// sessionEnvironment is what systemd's manager of this user gives to new services: desktops
// tell it of themselves when somebody logs in. See org.freedesktop.systemd1(5).
func sessionEnvironment(ctx context.Context) []string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	bus, err := dbus.Connect("unix:path="+dbus.EscapeBusAddressValue(dir+"/bus"), dbus.WithContext(ctx))
	if err != nil {
		return nil
	}
	defer bus.Close()
	const manager = "org.freedesktop.systemd1"
	var value dbus.Variant
	err = bus.Object(manager, "/org/freedesktop/systemd1").CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get",
		dbus.FlagNoAutoStart, manager+".Manager", "Environment").Store(&value)
	env, _ := value.Value().([]string)
	if err != nil {
		return nil
	}
	return env
}

func (d *Daemon) showAll() {
	all, err := listCapsules()
	if err != nil {
		log.Printf("looking for apps without a desktop: %v", err)
	}
	for _, c := range all {
		d.show(c)
	}
}

// show gives an app that has no desktop, or one that has ended, this host's.
func (d *Daemon) show(c *capsule.Capsule) {
	desktop := d.atDesktop()
	st, err := c.State()
	if desktop == nil || err != nil || st.Spec.NoDisplay || st.Phase != capsule.Running || !wants(st.Desktop, desktop, reachable) {
		return
	}
	ctx, stop := context.WithTimeout(d.ctx, desktopPatience)
	defer stop()
	if err := c.Desktop(ctx, desktop); err != nil {
		log.Printf("%v", err)
	}
}

// wants tells whether an app that has one desktop ought to have another one.
func wants(has, other []string, reachable func(display string) bool) bool {
	display := displayOf(has)
	if display != "" && (control.Display(display) == "" || slices.Contains(other, "DISPLAY="+display)) {
		return false // it is on another host's, as its person wanted; or there already
	}
	return !reachable(display) && reachable(displayOf(other))
}

func displayOf(env []string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "DISPLAY="); ok {
			return v
		}
	}
	return ""
}

// reachable tells whether an X server of this host answers.
func reachable(display string) bool {
	number := control.Display(display)
	if number == "" {
		return false
	}
	path := "/tmp/.X11-unix/X" + number
	for _, address := range []string{path, "@" + path} {
		if c, err := net.DialTimeout("unix", address, time.Second); err == nil {
			c.Close()
			return true
		}
	}
	return false
}
