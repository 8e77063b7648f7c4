package bridge

import (
	"os"
	"strconv"
	"strings"

	"hither/engine/display"
	"hither/engine/display/notify"
	"hither/engine/display/xwire"
)

// messages are what the app says on its session bus, see package notify. Greeting
// a bus may take a while, so one goroutine does it beside the windows.
type messages struct {
	b     *Bridge
	work  *notify.Notify
	buses chan string   // the newest one's socket
	done  chan struct{} // the goroutine has ended
}

func newNotify(b *Bridge) (feature, error) {
	m := &messages{b: b, work: notify.New(notify.Options{Log: b.log}), buses: make(chan string, 1), done: make(chan struct{})}
	if root, ok := strings.CutSuffix(b.o.Begin.Socket, display.ServerPath); ok && root != "" {
		// Not that of a capsule: it is one of a test's servers.
		if err := notify.Prepare(root, "/run/user/"+strconv.Itoa(os.Getuid())); err != nil {
			b.log.Warn("links are opened inside", "error", err)
		}
	}
	go func() {
		defer close(m.done)
		for socket := range m.buses {
			if err := m.work.Bus(socket); err != nil {
				b.log.Warn("the app's notifications are not shown", "error", err)
			}
		}
	}()
	if b.bus != "" {
		m.bus(b.bus)
	}
	return m, nil
}

func (m *messages) bus(socket string) {
	select {
	case <-m.buses: // overtaken
	default:
	}
	m.buses <- socket
}

// letGo ends it: after the move, or when it has failed, there is a new one.
func (m *messages) letGo() {
	m.work.Close()
	close(m.buses)
	<-m.done
}

func (m *messages) app(xwire.Event) bool  { return false }
func (m *messages) desk(xwire.Event) bool { return false }
func (m *messages) focus(bool)            {}
