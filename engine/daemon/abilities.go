package daemon

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/zeebo/blake3"

	"hither/engine/checkpoint"
	"hither/transport"
)

// abilityLife is how long what was read off this host is good enough: each peer
// asks every few seconds.
const abilityLife = 2 * time.Second

// able says what this host can take just now.
type able struct {
	desktop func() bool // whether there is one for windows

	mu   sync.Mutex
	now  transport.Abilities
	read time.Time
}

func (a *able) get() transport.Abilities {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.read) < abilityLife {
		return a.now
	}
	a.read = time.Now()
	a.now = transport.Abilities{CPUs: runtime.NumCPU(), UID: os.Getuid(), GID: os.Getgid(), Display: a.desktop()}
	if m, err := checkpoint.ThisMachine(); err == nil { // read once
		sum := blake3.Sum256([]byte(strings.Join(m.CPUFlags, " ")))
		a.now.Kernel, a.now.CPUFlags = m.Kernel, hex.EncodeToString(sum[:8])
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(data), &a.now.Load) // else it is 0
	}
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		a.now.Memory, a.now.MemoryFree = meminfo(data)
	}
	return a.now
}

// meminfo reads how much memory there is, and how much an app could have.
func meminfo(data []byte) (total, free uint64) {
	for line := range bytes.Lines(data) {
		var n uint64
		if _, err := fmt.Sscanf(string(line), "MemTotal: %d kB", &n); err == nil {
			total = n << 10
		} else if _, err := fmt.Sscanf(string(line), "MemAvailable: %d kB", &n); err == nil {
			free = n << 10
			break
		}
	}
	return total, min(free, total)
}

// hasDesktop tells whether windows of apps would be seen here.
func (d *Daemon) hasDesktop() bool {
	return d.atDesktop() != nil
}
