package move

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"hither/engine/capsule"
	"hither/engine/checkpoint"
)

// While an app is captured its threads are gathered on one processor. Which
// they had before lies beside the capsule's state, for the daemon that comes
// after one that died in between.

func processorsFile(c *capsule.Capsule) string { return filepath.Join(c.Dir(), "processors.json") }

func (s *Source) keepProcessors(before checkpoint.Processors) error {
	text, err := json.Marshal(before)
	if err != nil {
		return err
	}
	return os.WriteFile(processorsFile(s.cap), text, 0o600)
}

func dropProcessors(c *capsule.Capsule) {
	if err := os.Remove(processorsFile(c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Printf("forgetting which processors %s had: %v", c.ID, err)
	}
}

// GiveProcessorsBack lets an app whose move was broken off by the death of the
// daemon run on the processors it had.
func GiveProcessorsBack(c *capsule.Capsule) error {
	text, err := os.ReadFile(processorsFile(c))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading which processors %s had: %w", c.ID, err)
	}
	var before checkpoint.Processors
	if err := json.Unmarshal(text, &before); err != nil {
		return fmt.Errorf("reading which processors %s had: %w", c.ID, err)
	}
	pids, err := c.Processes()
	if err != nil {
		return err
	}
	var all []int
	for _, pid := range pids {
		if pid != c.InitPid() {
			all = append(all, pid)
		}
	}
	if err := checkpoint.Scatter(before, all); err != nil {
		return err
	}
	dropProcessors(c)
	return nil
}
