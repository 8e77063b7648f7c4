package handover

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// The frames of the control stream, in the order of a move that goes well.
//
//	source                                destination
//	------                                -----------
//	                  <- bring            "send me that app" (hither bring)
//	offer ->                              what the app needs
//	                  <- answer           problems (the end), or what to send
//	prepare ->  [files stream]
//	                  <- prepared         the capsule stands
//	precopy ->  [pre-copy stream]         may be left out
//	frozen ->   [image, memory streams]
//	                  <- ready            'ready' is on disk; waits for commit
//	commit ->                             'committed' is on disk
//	                  <- running          the copy runs
//	released ->                           the source's copy has ended; what it was still given
//	                  <- settled          portals are open; what people should know
//
// At any time before commit either side may send cancel. A frame of progress
// may come at any time from the source, and from the one who asks a person
// before the answer (or the offer, if it was asked for). On a link of its own, after the first
// was lost:
//
//	commit ->         <- running | dead   by the source, while it is undecided
//	verdict           <- ask              by the destination, while it waits
type kind uint8

const (
	kindBring kind = iota + 1
	kindOffer
	kindAnswer
	kindPrepare
	kindPrepared
	kindPreCopy
	kindFrozen
	kindReady
	kindCommit
	kindRunning
	kindDead
	kindReleased
	kindCancel
	kindProgress
	kindAsk
	kindVerdict
	kindUnsure
	kindSettled
	kindLast = kindSettled
)

var kindNames = [...]string{"", "bring", "offer", "answer", "prepare", "prepared", "precopy", "frozen", "ready",
	"commit", "running", "dead", "released", "cancel", "progress", "ask", "verdict", "unsure", "settled"}

func (k kind) String() string {
	if int(k) < len(kindNames) && k != 0 {
		return kindNames[k]
	}
	return fmt.Sprintf("frame %d", uint8(k))
}

// message is one frame. Which fields are set depends on the kind.
type message struct {
	Kind     kind      `cbor:"1,keyasint"`
	Move     string    `cbor:"2,keyasint,omitempty"`
	App      string    `cbor:"3,keyasint,omitempty"` // bring: id, name or prefix
	Check    bool      `cbor:"4,keyasint,omitempty"` // bring: only ask
	Offer    *Offer    `cbor:"5,keyasint,omitempty"`
	Answer   *Answer   `cbor:"6,keyasint,omitempty"`
	Reason   string    `cbor:"7,keyasint,omitempty"`  // cancel, dead, unsure
	Verdict  string    `cbor:"8,keyasint,omitempty"`  // verdict: "committed", "stayed", "moved", "wait"
	Since    int64     `cbor:"9,keyasint,omitempty"`  // running: ns between resume and this frame
	Restore  int64     `cbor:"10,keyasint,omitempty"` // ready: ns spent in Restore after the source had sent all
	Progress *Progress `cbor:"11,keyasint,omitempty"`
	Result   *Result   `cbor:"12,keyasint,omitempty"` // released
	Notes    []string  `cbor:"13,keyasint,omitempty"`
	Last     []byte    `cbor:"14,keyasint,omitempty"` // released: see Source.Release
}

// MaxLast bounds what people give an app while it moves.
const MaxLast = 64 << 10

// MaxFrame bounds a frame of the control stream; offers list files, so they
// are the largest.
const MaxFrame = 16 << 20

// MaxImage bounds the encoded image.
const MaxImage = 256 << 20

var decoding, errDecoding = cbor.DecOptions{
	MaxNestedLevels:  16,
	MaxArrayElements: 1 << 20,
	MaxMapPairs:      1 << 16,
	IndefLength:      cbor.IndefLengthForbidden,
	TagsMd:           cbor.TagsForbidden,
}.DecMode()

func encode(m *message) ([]byte, error) {
	b, err := cbor.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", m.Kind, err)
	}
	if len(b) > MaxFrame {
		return nil, fmt.Errorf("encoding %s: %d bytes are more than a frame takes (%d)", m.Kind, len(b), MaxFrame)
	}
	return b, nil
}

func decode(b []byte) (*message, error) {
	if len(b) > MaxFrame {
		return nil, fmt.Errorf("reading a frame: %d bytes are more than a frame takes (%d)", len(b), MaxFrame)
	}
	if errDecoding != nil {
		return nil, fmt.Errorf("setting up the decoder: %w", errDecoding)
	}
	m := new(message)
	if err := decoding.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("reading a frame: %w", err)
	}
	if m.Kind == 0 || m.Kind > kindLast {
		return nil, fmt.Errorf("reading a frame: %s is not known here; the two hosts may run different versions of hither", m.Kind)
	}
	switch {
	case m.Kind == kindOffer && (m.Offer == nil || m.Offer.Move == "" || m.Offer.App == ""),
		m.Kind == kindAnswer && m.Answer == nil,
		m.Kind == kindProgress && m.Progress == nil,
		m.Kind == kindBring && m.App == "",
		(m.Kind == kindCommit || m.Kind == kindAsk) && m.Move == "":
		return nil, fmt.Errorf("reading a frame: %s without what it is about", m.Kind)
	}
	if m.Move != "" && !validMove(m.Move) || m.Offer != nil && !validMove(m.Offer.Move) {
		return nil, fmt.Errorf("reading a frame: %s with a move id that is none", m.Kind)
	}
	if len(m.Last) > MaxLast {
		m.Last = nil // no person's; the app moves all the same
	}
	m.clean()
	return m, nil
}

// validMove keeps an id that came from elsewhere from naming a foreign file in
// the journal.
func validMove(id string) bool {
	if len(id) < 8 || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9') {
			return false
		}
	}
	return true
}
