package daemon

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"hither/engine/capsule"
	"hither/engine/files"
	"hither/engine/paths"
)

// sweepLayers looks after the files of apps that are not here: what was on its
// way home when the last daemon died is brought to its end, and what an app
// left behind that ended here is kept for `hither files`. Apps that are here,
// or of which a move is undecided, are left alone.
func (d *Daemon) sweepLayers(busy map[string]bool) error {
	data, err := paths.Data()
	if err != nil {
		return err
	}
	dirs, err := filepath.Glob(filepath.Join(data, "capsules", "*", "layer"))
	if err != nil {
		return fmt.Errorf("looking for files of apps: %w", err)
	}
	var errs []error
	for _, dir := range dirs {
		if id := filepath.Base(filepath.Dir(dir)); !busy[id] {
			errs = append(errs, d.layerOver(dir, id, ""))
		}
	}
	if dirs, err = filepath.Glob(filepath.Join(data, "capsules", "*", "return")); err != nil {
		return fmt.Errorf("looking for files that come home: %w", err)
	}
	for _, dir := range dirs {
		errs = append(errs, d.endReturn(dir))
	}
	return errors.Join(errs...)
}

// layerOver is called of a layer whose app may have ended.
func (d *Daemon) layerOver(dir, id, name string) error {
	if c, err := capsule.Open(id); err == nil {
		st, err := c.State()
		c.Close()
		if err == nil && st.Init.Alive() {
			return nil
		}
	}
	home, err := files.ReopenHomecoming(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return files.Over(dir, id, name, time.Now())
	case err != nil:
		return err
	case !home.Begun():
		return errors.Join(home.Discard(), files.Over(dir, id, name, time.Now()))
	}
	outcomes, err := home.Commit(context.WithoutCancel(d.ctx))
	for _, o := range outcomes {
		log.Printf("brought home: %s: %s %s %s", o.Path, o.What, o.Where, o.Why)
	}
	if err != nil {
		home.Close()
		return err
	}
	return home.Finish()
}

// guardOver is called when a capsule of this host is no more.
func (d *Daemon) guardOver(s capsule.Spec) {
	dir := s.LayerDir
	if dir == "" {
		return
	}
	for _, p := range d.moves.Pending() {
		if p.App == s.ID {
			return // it goes on somewhere, or comes back
		}
	}
	if _, gone := d.departed.list()[s.ID]; gone {
		return // its files went along
	}
	if err := d.layerOver(dir, s.ID, s.Name); err != nil {
		log.Printf("keeping the files of %s: %v", s.Name, err)
	}
}
