package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hither/engine/paths"
)

// departed remembers where apps went that were here.
type departed struct {
	name string

	mu   sync.Mutex
	apps map[string]departure // by capsule id
	// own are the apps that were started here and went away. Only they come
	// home: whatever a peer claims, any other app that arrives is foreign.
	own map[string]time.Time
}

// onDisk is the file's content.
type onDisk struct {
	Apps map[string]departure `json:"apps"`
	Own  map[string]time.Time `json:"own,omitempty"`
}

type departure struct {
	Name string    `json:"name"`
	Peer string    `json:"peer"`
	Host string    `json:"host"`
	When time.Time `json:"when"`
}

const (
	maxDeparted = 200
	maxOwn      = 10000
)

func openDeparted() (*departed, error) {
	dir, err := paths.State()
	if err != nil {
		return nil, err
	}
	d := &departed{name: filepath.Join(dir, "departed.json"), apps: map[string]departure{}, own: map[string]time.Time{}}
	var saved onDisk
	b, err := os.ReadFile(d.name)
	if err == nil {
		err = json.Unmarshal(b, &saved)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		// A convenience: where an app is, peers say too.
		log.Printf("reading %s: %v", d.name, err)
	}
	if saved.Apps != nil {
		d.apps = saved.Apps
	}
	if saved.Own != nil {
		d.own = saved.Own
	}
	return d, nil
}

func (d *departed) add(id string, dep departure) {
	dep.When = time.Now()
	d.change(func() {
		d.apps[id] = dep
		for len(d.apps) > maxDeparted {
			oldest := ""
			for id, a := range d.apps {
				if oldest == "" || a.When.Before(d.apps[oldest].When) {
					oldest = id
				}
			}
			delete(d.apps, oldest)
		}
	})
}

func (d *departed) remove(id string) {
	d.change(func() { delete(d.apps, id) })
}

// leaving notes that an app that was started here is about to go.
func (d *departed) leaving(id string) {
	d.change(func() {
		d.own[id] = time.Now()
		for len(d.own) > maxOwn {
			oldest := ""
			for id, when := range d.own {
				if oldest == "" || when.Before(d.own[oldest]) {
					oldest = id
				}
			}
			delete(d.own, oldest)
		}
	})
}

// started says whether an app that is not here was started here.
func (d *departed) started(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.own[id]
	return ok
}

// at says whether an app that was started here went to this peer, and is not back.
func (d *departed) at(id, peer string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ours := d.own[id]
	return ours && peer != "" && d.apps[id].Peer == peer
}

func (d *departed) list() map[string]departure {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[string]departure, len(d.apps))
	for id, a := range d.apps {
		out[id] = a
	}
	return out
}

func (d *departed) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	if err := d.write(); err != nil {
		log.Printf("%v", err)
	}
}

func (d *departed) write() error {
	b, err := json.MarshalIndent(onDisk{d.apps, d.own}, "", " ")
	if err != nil {
		return fmt.Errorf("writing down where apps went: %w", err)
	}
	if err = os.WriteFile(d.name+".new", b, 0o600); err == nil {
		err = os.Rename(d.name+".new", d.name)
	}
	if err != nil {
		return fmt.Errorf("writing down where apps went: %w", err)
	}
	return nil
}
