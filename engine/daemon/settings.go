package daemon

import (
	"cmp"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"hither/engine/control"
	"hither/engine/paths"
	"hither/transport"
)

// settings are what a person has chosen for this host.
type settings struct {
	name string // of the file

	mu  sync.Mutex
	now control.Settings
}

var permits = []string{control.PermitSend, control.PermitBring, control.PermitWatch}

// usual are the settings of who has chosen none: what a peer may do is asked, apart
// from seeing what runs here, without which nothing can be brought.
func usual() control.Settings {
	return control.Settings{Discoverable: true, Permissions: map[string]string{
		control.PermitSend: control.Ask, control.PermitBring: control.Ask, control.PermitWatch: control.Allow}}
}

func openSettings() (*settings, error) {
	dir, err := paths.Data()
	if err != nil {
		return nil, err
	}
	s := &settings{name: filepath.Join(dir, "settings.json"), now: usual()}
	saved := usual()
	if err := kept(s.name, &saved); err != nil {
		log.Printf("the settings are the usual ones: %v", err)
	} else if s.now, err = s.changed(saved); err != nil {
		log.Printf("the settings in %s: %v", s.name, err)
		s.now = usual()
	}
	return s, nil
}

// changed is what becomes of the settings by a change; s.mu is held, or s new.
func (s *settings) changed(in control.Settings) (control.Settings, error) {
	out := control.Settings{Name: s.now.Name, Discoverable: in.Discoverable, Permissions: maps.Clone(s.now.Permissions)}
	if name := strings.TrimSpace(in.Name); name != "" {
		if clean := transport.CleanName(name); clean != name {
			return out, usage(fmt.Sprintf("%q would do", clean), "%q cannot be a host's name", name)
		}
		out.Name = name
	}
	if err := checkPermissions(in.Permissions); err != nil {
		return out, err
	}
	maps.Copy(out.Permissions, in.Permissions)
	return out, nil
}

func (s *settings) get() control.Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.now
	out.Permissions = maps.Clone(out.Permissions)
	return out
}

// self is what this host is called.
func (d *Daemon) self() string {
	if d.settings != nil {
		if name := d.settings.get().Name; name != "" {
			return name
		}
	}
	host, _ := os.Hostname()
	return transport.CleanName(host)
}

func (d *Daemon) readSettings() control.Settings {
	out := d.settings.get()
	out.Name = cmp.Or(out.Name, d.self())
	return out
}

// changeSettings takes new settings; what is not theirs to say is refused whole.
func (d *Daemon) changeSettings(in control.Settings) (control.Settings, error) {
	s := d.settings
	if in.Name == d.self() {
		in.Name = "" // no choice is made by saying what it is called anyway
	}
	s.mu.Lock()
	next, err := s.changed(in)
	renamed, told := next.Name != s.now.Name, next.Discoverable != s.now.Discoverable
	if err == nil {
		err = keep(s.name, next)
	}
	if err == nil {
		s.now = next
	}
	s.mu.Unlock()
	if err != nil {
		return next, err
	}
	if d.book != nil && renamed {
		if err := d.book.SetName(next.Name); err != nil {
			return next, err
		}
	}
	if d.book != nil && told {
		d.book.SetDiscoverable(next.Discoverable)
	}
	d.events.tell(control.Event{Event: "settings"})
	return d.readSettings(), nil
}
