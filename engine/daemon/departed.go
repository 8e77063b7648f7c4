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
}

type departure struct {
	Name string    `json:"name"`
	Peer string    `json:"peer"`
	Host string    `json:"host"`
	When time.Time `json:"when"`
}

const maxDeparted = 200

func openDeparted() (*departed, error) {
	dir, err := paths.State()
	if err != nil {
		return nil, err
	}
	d := &departed{name: filepath.Join(dir, "departed.json"), apps: map[string]departure{}}
	b, err := os.ReadFile(d.name)
	if err == nil {
		err = json.Unmarshal(b, &d.apps)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		// A convenience: where an app is, peers say too.
		log.Printf("reading %s: %v", d.name, err)
		d.apps = map[string]departure{}
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
	b, err := json.MarshalIndent(d.apps, "", " ")
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
