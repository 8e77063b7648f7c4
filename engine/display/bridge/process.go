package bridge

import (
	"os"

	"hither/engine/display/xwire"
	"hither/engine/kernel"
)

// setProcess names the window's process as this host knows it, by which desktops
// group windows and end apps that do not answer.
func (b *Bridge) setProcess(w *window, p property) {
	host, err := os.Hostname()
	v := p.numbers(1)
	if v == nil || err != nil {
		return
	}
	pid := b.outsidePid(int(v[0]))
	if pid == 0 {
		return
	}
	b.Desk.ChangeProperty(xwire.PropModeReplace, w.desk, b.d["_NET_WM_PID"], xwire.AtomCardinal, 32, xwire.Uint32s(uint32(pid)))
	b.Desk.ChangeProperty(xwire.PropModeReplace, w.desk, xwire.AtomWmClientMachine, xwire.AtomString, 8, []byte(host))
}

// outsidePid is the pid here of a process of the capsule's, 0 if there is none.
func (b *Bridge) outsidePid(inside int) int {
	init := b.o.Begin.Init
	if init == 0 {
		return inside // no capsule, but a server of a test's
	}
	pids, err := kernel.Descendants(init)
	if err != nil {
		return 0
	}
	for _, pid := range pids {
		if n, err := kernel.InsidePid(init, pid); err == nil && n == inside {
			return pid
		}
	}
	return 0
}
