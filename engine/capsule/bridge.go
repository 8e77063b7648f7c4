package capsule

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"hither/engine/display"
)

// BridgeCommand makes the command of a bridge, see display.StartBridge. While it
// is nil, an app's windows are shown nowhere. A program that is a keeper sets it
// before KeeperMain.
var BridgeCommand func() *exec.Cmd

const (
	partPatience  = time.Second            // for a bridge to let go
	leavePatience = 500 * time.Millisecond // for its windows to go
	endPatience   = 2 * time.Second        // for a bridge to end
	backDelay     = 200 * time.Millisecond // a move that failed may be tried again at once
	firstDelay    = 50 * time.Millisecond  // before a bridge that died is followed by another
	lastDelay     = 5 * time.Second        // ... the more often it dies
)

// keepBridge has a bridge show the app's windows until the X server is over,
// and starts another when it dies.
func (k *keeper) keepBridge(over <-chan struct{}) {
	delay := firstDelay
	for {
		b, desktop, err := k.startBridge()
		began := time.Now()
		if err != nil {
			k.log.Error("showing windows", "error", err)
		}
		var done <-chan struct{} // nil: nothing ends it but a new desktop
		if b != nil {
			done = b.Done()
		}
		select {
		case <-over:
			k.endBridge(b)
			return
		case <-k.dead:
			k.endBridge(b)
			return
		case <-desktop:
			k.endBridge(b)
			delay = firstDelay
			continue
		case <-done:
			k.log.Info("the bridge has ended", "error", b.Err())
		}
		if time.Since(began) > 2*lastDelay {
			delay = firstDelay
		}
		select {
		case <-time.After(delay):
		case <-desktop:
			delay = firstDelay
		case <-over:
			return
		case <-k.dead:
			return
		}
		delay = min(2*delay, lastDelay)
	}
}

// startBridge starts one, if there is a desktop to show windows on. The channel
// is closed when there is another.
func (k *keeper) startBridge() (*display.Bridge, <-chan struct{}, error) {
	if err := k.lockOpen(); err != nil {
		return nil, nil, err
	}
	defer k.starting.Unlock()
	k.mu.Lock()
	desktop, changed, st := k.state.Desktop, k.newDesktop, k.state
	arrived := st.Spec.Restore && !k.shown
	bus := k.busPath()
	k.bridge, k.parted = nil, false
	k.mu.Unlock()
	if BridgeCommand == nil || lookup(desktop, "DISPLAY") == "" {
		return nil, changed, nil
	}
	cmd := BridgeCommand()
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr // the keeper's log
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(display.DesktopEnv, name)
	})
	cmd.Env = append(cmd.Env, desktop...)
	b, err := display.StartBridge(cmd, display.Begin{
		Socket: k.services[0].Outside(st.Init.Pid), Init: st.Init.Pid, Bus: bus, ID: st.Spec.ID, Name: st.Spec.Name, Origin: st.Spec.Origin.HostName, Arrived: arrived,
	})
	k.mu.Lock()
	k.bridge, k.shown = b, k.shown || b != nil
	missed := k.busPath() != bus
	k.mu.Unlock()
	if missed {
		k.tellBus() // it came or went when there was nobody to tell
	}
	k.tellTyped()
	return b, changed, err
}

func (k *keeper) endBridge(b *display.Bridge) {
	if b == nil {
		return
	}
	b.End(endPatience)
	k.mu.Lock()
	if k.bridge == b {
		k.bridge = nil
	}
	k.mu.Unlock()
}

// part closes what an app must not have open to the outside when it is frozen:
// from now on no server is started and no bridge, and the one there is has let
// go of the X server. It may be asked for again, and is undone by reopen.
func (k *keeper) part() error {
	k.mu.Lock()
	if k.reopened == nil {
		k.reopened = make(chan struct{})
	}
	if k.backSoon != nil {
		k.backSoon.Stop()
		k.backSoon = nil
	}
	k.mu.Unlock()
	k.starting.Lock() // a start under way is over then
	k.mu.Lock()
	b, parted := k.bridge, k.parted
	var servers []int
	for _, s := range k.services {
		if s.pid != 0 {
			servers = append(servers, s.host)
		}
	}
	k.parted = true
	k.mu.Unlock()
	k.starting.Unlock()
	if b != nil && !parted {
		if err := b.Part(partPatience); err != nil {
			k.log.Error("before a move", "error", err)
		}
	}
	// A bridge that died has hung up, but the server may not have heard it yet;
	// of that it tells nobody.
	for wait, end := time.Millisecond, time.Now().Add(partPatience); slices.ContainsFunc(servers, holdsOutside); wait *= 2 {
		if time.Now().After(end) {
			return errors.New("a program outside of the capsule holds a connection to its display or its session bus: end that first")
		}
		time.Sleep(wait)
	}
	return k.become(Paused)
}

// reopen undoes part: the app has not moved. Servers may start at once, since a
// caller of theirs may be what stood in the way.
func (k *keeper) reopen() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.reopened == nil {
		return
	}
	close(k.reopened)
	k.reopened = nil
	k.backSoon = time.AfterFunc(backDelay, func() {
		k.mu.Lock()
		if k.backSoon == nil {
			k.mu.Unlock()
			return // the next try has begun
		}
		b, parted := k.bridge, k.parted
		k.backSoon, k.parted = nil, false
		k.mu.Unlock()
		if b != nil && parted {
			if err := b.Back(); err != nil {
				k.log.Error("after a move that failed", "error", err)
			}
		}
	})
}

// busPath is where the session bus is reached from outside, "" if it does not
// run; mu is held.
func (k *keeper) busPath() string {
	for _, s := range k.services {
		if s.fd == FDBus && s.pid != 0 {
			return s.Outside(k.state.Init.Pid)
		}
	}
	return ""
}

// tellBus tells the bridge of the session bus.
func (k *keeper) tellBus() {
	k.mu.Lock()
	b, path := k.bridge, k.busPath()
	k.mu.Unlock()
	if b == nil {
		return
	}
	if err := b.Bus(path); err != nil {
		k.log.Error("showing windows", "error", err)
	}
}

// progress tells the bridge how far a move is.
func (k *keeper) progress(text string, share float64) {
	k.mu.Lock()
	b := k.bridge
	k.mu.Unlock()
	if b != nil {
		b.Progress(text, share) //nolint:errcheck // the next one tells more
	}
}

// tellTyped tells the bridge what was typed where the app was before, as soon as
// both are there.
func (k *keeper) tellTyped() {
	k.mu.Lock()
	b, typed := k.bridge, k.typed
	if b == nil || !k.typedCame {
		k.mu.Unlock()
		return
	}
	k.typed, k.typedCame = nil, false
	k.mu.Unlock()
	if err := b.Typed(typed); err != nil {
		k.log.Error("showing windows", "error", err)
	}
}

// leave tells the bridge where the app has gone, and returns what has been typed at
// the windows since it has let go.
func (k *keeper) leave(host string) Typed {
	k.mu.Lock()
	b := k.bridge
	k.mu.Unlock()
	if b == nil {
		return nil
	}
	return b.Left(host, leavePatience)
}

// desktopOf picks from an environment what names a desktop.
func desktopOf(env []string) []string {
	var out []string
	for _, name := range display.DesktopEnv {
		if v := lookup(env, name); v != "" {
			out = append(out, name+"="+v)
		}
	}
	return out
}

// setDesktop says on which desktop of this host the windows are to be from now on.
func (k *keeper) setDesktop(env []string) error {
	k.mu.Lock()
	desktop := desktopOf(env)
	if !slices.Equal(desktop, k.state.Desktop) {
		k.state.Desktop = desktop
		close(k.newDesktop)
		k.newDesktop = make(chan struct{})
	}
	k.mu.Unlock()
	return k.save()
}
