package daemon

import (
	"context"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"hither/engine/capsule"
	"hither/engine/control"
)

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

func (d *Daemon) showAll() {
	all, err := listCapsules()
	if err != nil {
		log.Printf("looking for apps without a desktop: %v", err)
	}
	for _, c := range all {
		d.show(c)
	}
}

// show gives an app that has no desktop, or one that has ended, the one where hither
// was last used.
func (d *Daemon) show(c *capsule.Capsule) {
	d.mu.Lock()
	desktop := d.desktop
	d.mu.Unlock()
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
