package handover

import (
	"sync"
	"time"
)

// Outcome is how a move ended.
type Outcome string

const (
	Moved     Outcome = "moved"     // it runs at the destination
	Stayed    Outcome = "stayed"    // it runs on where it was
	Undecided Outcome = "undecided" // the peer was lost between commit and answer
)

// Result is the result of a move.
type Result struct {
	App         string   `cbor:"1,keyasint" json:"app"`
	From        string   `cbor:"2,keyasint" json:"from"`
	To          string   `cbor:"3,keyasint" json:"to"`
	Outcome     Outcome  `cbor:"4,keyasint" json:"outcome"`
	Reason      string   `cbor:"5,keyasint" json:"reason"`
	DowntimeMS  float64  `cbor:"6,keyasint" json:"downtime_ms"`
	TotalMS     float64  `cbor:"7,keyasint" json:"total_ms"`
	FreezeMS    float64  `cbor:"8,keyasint" json:"freeze_ms"`
	RestoreMS   float64  `cbor:"9,keyasint" json:"restore_ms"`
	Rounds      int      `cbor:"10,keyasint" json:"rounds"`
	BytesSent   uint64   `cbor:"11,keyasint" json:"bytes_sent"`
	BytesMemory uint64   `cbor:"12,keyasint" json:"bytes_memory"`
	FilesSent   int      `cbor:"13,keyasint" json:"files_sent"`
	BytesFiles  uint64   `cbor:"14,keyasint" json:"bytes_files"`
	Notes       []string `cbor:"15,keyasint,omitempty" json:"notes,omitempty"`
	// Problems are what stood in the way, when the move was refused.
	Problems []Problem `cbor:"16,keyasint,omitempty" json:"problems,omitempty"`
}

// Progress is where a move is.
type Progress struct {
	Move  string `cbor:"1,keyasint" json:"move"`
	App   string `cbor:"2,keyasint" json:"app"`
	State State  `cbor:"3,keyasint" json:"state"`
	Round int    `cbor:"4,keyasint,omitempty" json:"round,omitempty"`
	// Done and Total are bytes of what travels in this state, Sent all bytes
	// on the wire so far, Rate bytes in a second, Left seconds (-1: not known).
	Done  uint64  `cbor:"5,keyasint,omitempty" json:"done"`
	Total uint64  `cbor:"6,keyasint,omitempty" json:"total"`
	Sent  uint64  `cbor:"7,keyasint,omitempty" json:"sent"`
	Rate  float64 `cbor:"8,keyasint,omitempty" json:"rate"`
	Left  float64 `cbor:"9,keyasint,omitempty" json:"left"`
	// Note says what is waited for, when it is a person: "waiting for a person on
	// b to agree".
	Note string `cbor:"10,keyasint,omitempty" json:"note,omitempty"`
}

// meter turns reports into progress, not oftener than every 100 ms.
type meter struct {
	tell func(Progress)

	mu    sync.Mutex
	p     Progress
	since time.Time // of the state
	last  time.Time // told
	noted time.Time // that something is waited for
}

const meterPause = 100 * time.Millisecond

func (m *meter) about(o *Offer) {
	m.mu.Lock()
	m.p.Move, m.p.App = o.Move, o.Name
	m.mu.Unlock()
}

// enter tells of a new state.
func (m *meter) enter(s State, round int) {
	m.mu.Lock()
	m.p.State, m.p.Round, m.p.Done, m.p.Total, m.p.Rate, m.p.Left, m.p.Note = s, round, 0, 0, 0, -1, ""
	m.since, m.last = time.Now(), time.Now()
	p := m.p
	m.mu.Unlock()
	if m.tell != nil {
		m.tell(p)
	}
}

// note tells what is waited for before the move. The other side says it, which may say
// anything at any time: only what is new then is told, and not too often.
func (m *meter) note(text string) {
	m.mu.Lock()
	now := time.Now()
	if m.p.State != SourceOffer || text == m.p.Note || now.Sub(m.noted) < meterPause {
		m.mu.Unlock()
		return
	}
	m.p.Note, m.noted = text, now
	p := m.p
	m.mu.Unlock()
	if m.tell != nil {
		m.tell(p)
	}
}

func (m *meter) sent(n int) {
	m.mu.Lock()
	m.p.Sent += uint64(n)
	m.mu.Unlock()
}

func (m *meter) total() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.p.Sent
}

// report is a Report.
func (m *meter) report(done, total uint64) {
	m.mu.Lock()
	now := time.Now()
	m.p.Done, m.p.Total = done, total
	if passed := now.Sub(m.since).Seconds(); passed > 0 {
		m.p.Rate = float64(done) / passed
	}
	m.p.Left = -1
	if m.p.Rate > 0 && total >= done {
		m.p.Left = float64(total-done) / m.p.Rate
	}
	if now.Sub(m.last) < meterPause {
		m.mu.Unlock()
		return
	}
	m.last = now
	p := m.p
	m.mu.Unlock()
	if m.tell != nil {
		m.tell(p)
	}
}
