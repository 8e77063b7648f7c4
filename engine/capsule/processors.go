package capsule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"hither/engine/kernel"
)

// While an app is captured its threads are gathered on one processor. Which they had
// before lies beside the capsule's state. Who gathers them holds a connection to the keeper
// meanwhile: when that ends otherwise than by done, he has died, and the keeper gives them
// back. Should both die, the next daemon does.

// gatheredDone is what done says.
const gatheredDone = 1

// Gathered keeps which processors the app's threads have, before they are gathered. done is
// said when they have them again.
func (c *Capsule) Gathered(before kernel.Processors) (done func(), err error) {
	text, err := json.Marshal(before)
	if err != nil {
		return nil, err
	}
	file := processorsFile(c.dir)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, fmt.Errorf("keeping which processors %s has: %w", c.ID, err)
	}
	conn, _, err := c.ask(&request{Op: "gathered"}, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keeping which processors %s has: %w", c.ID, err), os.Remove(file))
	}
	return func() {
		_ = os.Remove(file) // the capsule may have gone with all it had
		// Said, since the end of the connection alone may be heard when they are gathered once more.
		_, _ = conn.Write([]byte{gatheredDone})
		conn.Close()
	}, nil
}

// whileGathered is the keeper's side of it.
func (k *keeper) whileGathered(c net.Conn) error {
	if err := reply(c, response{}); err != nil {
		return err
	}
	if n, _ := io.Copy(io.Discard, c); n > 0 { // how it ends does not matter
		return nil
	}
	return giveProcessorsBack(k.dir, k.state.Init.Pid)
}

// GiveProcessorsBack is for an app whose capture ended with the death of who did it and
// that of the keeper.
func (c *Capsule) GiveProcessorsBack() error {
	if err := giveProcessorsBack(c.dir, c.InitPid()); err != nil {
		return fmt.Errorf("capsule %s: %w", c.ID, err)
	}
	return nil
}

func processorsFile(dir string) string { return filepath.Join(dir, "processors.json") }

func giveProcessorsBack(dir string, first int) error {
	file := processorsFile(dir)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading which processors the app had: %w", err)
	}
	var before kernel.Processors
	if err := json.Unmarshal(text, &before); err != nil {
		return fmt.Errorf("reading which processors the app had: %w", err)
	}
	inside, err := processes(first)
	if err != nil {
		return err
	}
	var pids []int
	for _, pid := range inside {
		if pid != first {
			pids = append(pids, pid)
		}
	}
	if err := before.GiveBack(pids); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting which processors the app had: %w", err)
	}
	return nil
}
