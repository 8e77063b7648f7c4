package terminal

import (
	"errors"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	maxInput = 64 << 10  // typed, and not yet taken by the app
	maxEarly = 256 << 10 // output before the first client came
	maxQueue = 1 << 20   // of the leader
	maxDrain = 16 << 20  // by Pause, should the app still write

	// patience is how long the app waits for a leader that takes nothing.
	patience = 200 * time.Millisecond
	// farewell is how long a client may take nothing after the end.
	farewell = 5 * time.Second
	// paintEvery is the shortest time between two pictures for a client that
	// does not lead.
	paintEvery = 10 * time.Millisecond
)

// Terminal is the terminal of one capsule. All methods may be called from any
// goroutine.
type Terminal struct {
	change sync.Mutex // see the package comment

	master *os.File
	peer   *os.File // keeps the slave open; may be nil

	mu      sync.Mutex
	cond    *sync.Cond // mu; any change of the fields below that somebody waits for
	screen  *screen
	version uint64 // counts what the screen was fed
	size    Winsize
	clients []*client // the one that was active last comes first

	early     []byte // all output so far, until the first client came
	keepEarly bool

	input            []byte
	paused           bool
	reading, writing bool // a call on the master is under way
	ended            *Outcome
	broken           error // the master could not be used at all
}

// New makes the terminal of a pty, whose master it takes over and reads from
// now on. A zero size leaves the pty's as it is.
func New(master *os.File, size Winsize) *Terminal {
	t := &Terminal{keepEarly: true, size: size}
	t.cond = sync.NewCond(&t.mu)
	own, err := pollable(master)
	if err != nil {
		t.broken = err
		t.screen = newScreen(size)
		return t
	}
	t.master = own
	t.peer, _ = openPeer(own)
	if size.Rows == 0 || size.Cols == 0 {
		t.size, _ = getWinsize(own)
	} else {
		setWinsize(own, size)
	}
	t.screen = newScreen(t.size)
	t.screen.reply = t.answer
	go t.readMaster()
	go t.writeMaster()
	return t
}

// readMaster feeds what the app writes to the screen and the clients.
func (t *Terminal) readMaster() {
	buf := make([]byte, 32<<10)
	retry := time.Duration(0)
	for t.begin(&t.reading, func() bool { return true }) {
		n, err := t.master.Read(buf)
		t.mu.Lock()
		if n > 0 {
			t.take(buf[:n])
			retry = 0
		}
		leader := t.leader()
		full := leader != nil && leader.queue.Len() >= maxQueue
		t.finish(&t.reading)
		t.mu.Unlock()
		switch {
		case err == nil:
			if full {
				t.waitFor(leader)
			}
		case errors.Is(err, os.ErrDeadlineExceeded): // Pause
		case errors.Is(err, os.ErrClosed):
			return
		default:
			// EIO: nobody has the slave open, or it was hung up.
			retry = min(max(10*time.Millisecond, 2*retry), time.Second)
			time.Sleep(retry)
		}
	}
}

// begin waits until the master may be used and there is something to do, and
// marks the use. It returns false at the end.
func (t *Terminal) begin(use *bool, ready func() bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.ended == nil && (t.paused || !ready()) {
		t.cond.Wait()
	}
	if t.ended != nil {
		return false
	}
	*use = true
	return true
}

func (t *Terminal) finish(use *bool) {
	*use = false
	t.cond.Broadcast()
}

// waitFor holds the app's output back for a leader whose queue is full, and
// gives its backlog up when it takes nothing for long.
func (t *Terminal) waitFor(c *client) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		t.mu.Lock()
		done := c.gone || t.paused || c.queue.Len() < maxQueue
		t.mu.Unlock()
		if done {
			return
		}
		select {
		case <-c.space:
		case <-timer.C:
			t.mu.Lock()
			if c.queue.Len() >= maxQueue {
				c.dropBacklog()
			}
			t.mu.Unlock()
			return
		}
	}
}

// take feeds output to the screen and the clients. mu is held.
func (t *Terminal) take(data []byte) {
	if t.keepEarly {
		t.early = append(t.early, data...)
		if len(t.early) > maxEarly {
			t.early, t.keepEarly = nil, false
		}
	}
	before := t.screen.mainGen
	t.screen.write(data)
	t.version++
	for _, c := range t.clients {
		if c.raw {
			c.output(data, t.screen, before)
		}
		c.wake()
	}
}

// answer types what the model answers to a question of the app, if there is no
// real terminal that does. mu is held.
func (t *Terminal) answer(b []byte) {
	for _, c := range t.clients {
		if c.raw {
			return
		}
	}
	if len(t.input) < maxInput {
		t.input = append(t.input, b...)
		t.cond.Broadcast()
	}
}

// writeMaster types what the clients sent.
func (t *Terminal) writeMaster() {
	var buf []byte
	for t.begin(&t.writing, func() bool { return len(t.input) > 0 }) {
		t.mu.Lock()
		buf = append(buf[:0], t.input...)
		t.mu.Unlock()
		n, err := t.master.Write(buf)
		t.mu.Lock()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			n = len(buf) // nobody will ever read it
		}
		t.input = append(t.input[:0], t.input[n:]...)
		t.finish(&t.writing)
		t.mu.Unlock()
	}
}

// typed queues what a client typed, and waits while the app takes nothing.
func (t *Terminal) typed(c *client, b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.input) >= maxInput && t.ended == nil && !c.gone {
		t.cond.Wait()
	}
	if t.ended == nil && !c.gone {
		t.input = append(t.input, b...)
		t.cond.Broadcast()
	}
}

// Pause stops all use of the master and returns when none is under way. What
// the app had written by then has reached the screen; what clients type from
// now on is held.
func (t *Terminal) Pause() {
	t.change.Lock()
	defer t.change.Unlock()
	t.pause()
}

func (t *Terminal) pause() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.paused || t.master == nil || t.ended != nil {
		t.paused = true
		return
	}
	t.paused = true
	past := time.Unix(1, 0)
	t.master.SetDeadline(past)
	for t.reading || t.writing {
		t.cond.Wait()
	}
	drain(t.master, maxDrain, t.take)
}

// Resume goes on after a Pause: what was typed meanwhile is given to the app.
func (t *Terminal) Resume() {
	t.change.Lock()
	defer t.change.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.paused || t.ended != nil {
		return
	}
	t.paused = false
	if t.master != nil {
		t.master.SetDeadline(time.Time{})
		setWinsize(t.master, t.size)
	}
	t.cond.Broadcast()
}

// Screen returns the terminal's picture and state as output that makes an
// empty terminal equal to it.
func (t *Terminal) Screen() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen.snapshot()
}

// Restore replaces the picture by one that Screen returned, perhaps on another
// host.
func (t *Terminal) Restore(picture []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := newScreen(t.size)
	s.restoring = true
	s.write(picture)
	s.restoring = false
	s.resize(t.size)
	s.reply = t.answer
	t.screen = s
	t.version++
	t.early, t.keepEarly = nil, false
	for _, c := range t.clients {
		c.repaint()
	}
}

// Held returns what was typed and not yet given to the app. It makes sense
// after Pause.
func (t *Terminal) Held() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.input)
}

// Give types what another host's Held returned.
func (t *Terminal) Give(input []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writing { // what is being written must stay in front
		t.input = append(t.input, input...)
	} else {
		t.input = append(slices.Clone(input), t.input...)
	}
	t.cond.Broadcast()
}

// Size is the app's terminal size.
func (t *Terminal) Size() Winsize {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.size
}

// Clients is how many are attached.
func (t *Terminal) Clients() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.clients)
}

// End tells all clients how it ended, after the rest of the output, and
// returns when they have it or do not take it. The master is closed. A client
// that comes later gets the last picture and the same end.
func (t *Terminal) End(o Outcome) {
	t.change.Lock()
	defer t.change.Unlock()
	t.pause() // takes the last output
	t.mu.Lock()
	if t.ended == nil {
		t.ended = &o
	}
	t.cond.Broadcast()
	deadline := time.Now().Add(farewell)
	for _, c := range t.clients {
		c.conn.SetWriteDeadline(deadline)
		c.wake()
	}
	for len(t.clients) > 0 {
		t.cond.Wait()
	}
	master, peer := t.master, t.peer
	t.peer = nil
	t.mu.Unlock()
	if master != nil {
		master.Close()
	}
	if peer != nil {
		peer.Close()
	}
}
