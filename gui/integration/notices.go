package integration

import (
	"fmt"
	"time"

	"hither/engine/handover"
	"hither/gui/model"
)

// Notes are what a person who does not look at the window is told of, when before became now: apps that
// came, and what became of the moves that were begun in the window or the tray. What was begun
// elsewhere is told there.
func Notes(before, now model.State) []Note {
	was := map[int]bool{}
	for _, m := range before.Moves {
		was[m.ID] = m.Running()
	}
	var out []Note
	for _, m := range now.Moves {
		if !m.Running() && was[m.ID] {
			if n, ok := noteOf(m); ok {
				out = append(out, n)
			}
		}
	}
	return out
}

func noteOf(m *model.Move) (Note, bool) {
	n := Note{Key: fmt.Sprintf("move %d", m.ID)}
	switch {
	case m.Moved() && m.Here:
		n.Title, n.Text = m.Name+" is here", "It came from "+m.Peer+"."
	case m.Moved() && !m.Elsewhere:
		n.Title, n.Text = m.Name+" is on "+m.Peer, "It stood still for "+short(m.Result.DowntimeMS)+"."
	case m.Elsewhere:
		return n, false
	case m.Result != nil && m.Result.Outcome == handover.Undecided:
		n.Title, n.Text, n.Asks = m.Name+" waits", m.Peer+" was lost at the last moment. It is settled as soon as both machines meet.", true
	case m.Result != nil && m.Cancelling:
		return n, false // as was wanted
	default:
		n.Title = m.Name + " was not moved"
		switch {
		case m.Result != nil && len(m.Result.Problems) > 0:
			n.Text = m.Result.Problems[0].What
		case m.Result != nil:
			n.Text = m.Result.Reason
		case m.Error != nil:
			n.Text, _ = model.Words(m.Error)
		}
	}
	return n, true
}

// short is a span in words.
func short(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
