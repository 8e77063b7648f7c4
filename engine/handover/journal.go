package handover

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// RecordState is what has been decided.
type RecordState string

const (
	// Source.
	Holding   RecordState = "holding"   // not decided: the app is the source's, but may stand under a SIGSTOP of ours
	Committed RecordState = "committed" // decided: the destination's, unless it says that it has no copy
	Gone      RecordState = "moved"     // the destination's copy runs; this one must end
	Reverted  RecordState = "reverted"  // the destination has no copy; this one must run

	// Destination.
	Ready   RecordState = "ready"   // a whole copy waits for commit; or it runs, if pid 1 has outlived the daemon
	Running RecordState = "running" // the copy runs, or ran and ended
)

func (s RecordState) side() Side {
	switch s {
	case Holding, Committed, Gone, Reverted:
		return SideSource
	case Ready, Running:
		return SideDestination
	}
	return ""
}

// Record is what a side has written down of one move.
type Record struct {
	Move     string      `json:"move"`
	Side     Side        `json:"side"`
	State    RecordState `json:"state"`
	App      string      `json:"app"`
	Name     string      `json:"name"`
	Peer     string      `json:"peer"` // id of the other host
	PeerName string      `json:"peer_name"`
	Time     time.Time   `json:"time"` // of the last change
	Boot     string      `json:"boot"` // this host's boot id: after another boot no process is left
	Pid      int         `json:"pid"`  // the capsule's pid 1, seen from outside
	Start    uint64      `json:"start"`
	Stopped  []int       `json:"stopped,omitempty"` // were stopped before the freeze
}

// Damage is a record that cannot be read. It is permission for nothing: the
// copy it speaks of is neither run nor ended until a person has looked.
type Damage struct {
	Move string
	Side Side
	Err  error
}

// Journal keeps the records, one for each move and side, over a crash.
type Journal interface {
	// Write replaces the record. When it returns nil, the record is on disk;
	// if it fails, the old one or the new one is.
	Write(rec *Record) error
	// Remove forgets a record; one that is not there is no error.
	Remove(move string, side Side) error
	// All reads everything.
	All() ([]*Record, []Damage, error)
}

// FileJournal is a Journal in a folder: one small file for each record,
// replaced as a whole and synced.
type FileJournal struct{ Dir string }

var _ Journal = FileJournal{}

const maxRecord = 1 << 20

func (j FileJournal) path(move string, side Side) string {
	return filepath.Join(j.Dir, move+"."+string(side))
}

func (j FileJournal) Write(rec *Record) error {
	if !validMove(rec.Move) {
		return fmt.Errorf("writing the journal: move id %q is none", rec.Move)
	}
	b, err := encodeRecord(rec)
	if err != nil {
		return err
	}
	name := j.path(rec.Move, rec.Side)
	if err := replace(name, b); err != nil {
		return fmt.Errorf("writing the journal %s: %w", name, err)
	}
	return nil
}

// replace writes a file so that after a crash the old or the new content is
// there, and after success the new one is.
func replace(name string, b []byte) error {
	temp := name + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(temp)))
	}
	return syncFolder(filepath.Dir(name))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (j FileJournal) Remove(move string, side Side) error {
	if !validMove(move) {
		return fmt.Errorf("forgetting a move: id %q is none", move)
	}
	if err := ignoreMissing(os.Remove(j.path(move, side))); err != nil {
		return fmt.Errorf("forgetting a move: %w", err)
	}
	return doing("forgetting a move", syncFolder(j.Dir))
}

func (j FileJournal) All() ([]*Record, []Damage, error) {
	entries, err := os.ReadDir(j.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the journal of moves: %w", err)
	}
	var records []*Record
	var damaged []Damage
	for _, e := range entries {
		move, side, ok := strings.Cut(e.Name(), ".")
		if !ok || !validMove(move) || (Side(side) != SideSource && Side(side) != SideDestination) {
			continue // such as a .new of a write that a crash has cut short
		}
		name := filepath.Join(j.Dir, e.Name())
		rec, err := readRecord(name)
		if err == nil && (rec.Move != move || rec.Side != Side(side)) {
			err = fmt.Errorf("it speaks of move %s as %s", rec.Move, rec.Side)
		}
		if err != nil {
			damaged = append(damaged, Damage{Move: move, Side: Side(side), Err: fmt.Errorf("the journal %s is damaged (%w); look on both hosts where the app runs, then remove the file", name, err)})
			continue
		}
		records = append(records, rec)
	}
	return records, damaged, nil
}

func readRecord(name string) (*Record, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxRecord {
		return nil, fmt.Errorf("%d bytes are too many", info.Size())
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return decodeRecord(b)
}

// encodeRecord makes a line of JSON and a line with its SHA-256.
func encodeRecord(rec *Record) ([]byte, error) {
	b, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encoding a record of the journal: %w", err)
	}
	if len(b) > maxRecord-100 {
		return nil, fmt.Errorf("encoding a record of the journal: %d bytes are too many", len(b))
	}
	sum := sha256.Sum256(b)
	return append(append(append(b, '\n'), hex.EncodeToString(sum[:])...), '\n'), nil
}

func decodeRecord(b []byte) (*Record, error) {
	line, rest, ok := bytes.Cut(b, []byte("\n"))
	sum := sha256.Sum256(line)
	if !ok || string(rest) != hex.EncodeToString(sum[:])+"\n" {
		return nil, errors.New("its check sum is wrong")
	}
	rec := new(Record)
	if err := json.Unmarshal(line, rec); err != nil {
		return nil, err
	}
	if !validMove(rec.Move) || rec.Side == "" || rec.State.side() != rec.Side || rec.App == "" {
		return nil, fmt.Errorf("move %q, side %q, state %q do not fit together", rec.Move, rec.Side, rec.State)
	}
	return rec, nil
}
