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
// a bus may take a while, so one goroutine does it beside the windows. Like the
// clipboard they outlive a letting go.
type messages struct {
	b     *Bridge
	work  *notify.Notify
	buses chan string // the newest one's socket
}

func newNotify(b *Bridge) (feature, error) {
	m := b.messages
	if m == nil {
		m = &messages{b: b, work: notify.New(notify.Options{Log: b.log}), buses: make(chan string, 1)}
		b.messages = m
		go func() {
			for socket := range m.buses {
				if err := m.work.Bus(socket); err != nil {
					b.log.Warn("the app's notifications are not shown", "error", err)
				}
			}
		}()
	}
	if root, ok := strings.CutSuffix(b.o.Begin.Socket, display.ServerPath); ok && root != "" {
		// Otherwise it is no capsule, but a server of a test's.
		if err := notify.Prepare(root, "/run/user/"+strconv.Itoa(os.Getuid())); err != nil {
			b.log.Warn("links are opened inside", "error", err)
		}
	}
	m.work.Back()
	m.bus(b.bus)
	return m, nil
}

func (m *messages) bus(socket string) {
	select {
	case <-m.buses: // overtaken
	default:
	}
	m.buses <- socket
}

func (m *messages) letGo() { m.work.Part() }

// close ends it with the bridge.
func (m *messages) close() {
	if m != nil {
		m.work.Close()
		close(m.buses)
	}
}

func (m *messages) app(xwire.Event) bool  { return false }
func (m *messages) desk(xwire.Event) bool { return false }
func (m *messages) focus(bool)            {}
