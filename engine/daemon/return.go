package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hither/engine/control"
	"hither/engine/files"
	"hither/engine/handover"
	"hither/engine/paths"
	"hither/transport"
)

// The way home of files without their app (`hither files APP --return`), on a
// connection of its own:
//
//	here (where the app is, or ended)        its origin
//	homeAsk: what there is           ->      an app of ours that is away?
//	                                 <-      homeWant: which bytes
//	package files' stream, end       ->      staged, committed, on disk
//	                                 <-      homeDone: what became of each
//
// The rules are those of an app that comes home (package files). Here nothing
// is let go of before homeDone has come.

type homeAsk struct {
	App  string `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint"`
	Need []byte `cbor:"3,keyasint"`
}

type homeWant struct {
	Answer []byte `cbor:"1,keyasint,omitempty"`
	Error  string `cbor:"2,keyasint,omitempty"`
}

type homeDone struct {
	Outcomes []files.Outcome `cbor:"1,keyasint,omitempty"`
	Error    string          `cbor:"2,keyasint,omitempty"`
}

// giveBack returns the documents of an app to the host where it was started.
func (d *Daemon) giveBack(ctx context.Context, f *found, layer *files.Layer) (*control.Files, error) {
	name, origin := f.app.Name, layer.Ledger.Origin
	if origin.ID == string(d.identity.ID()) {
		return nil, fmt.Errorf("%s was started on this host: what is listed could not be put in its place here; `hither files %s --fetch FOLDER` copies it out", name, name)
	}
	if f.app.State != "running" && f.app.State != "ended" {
		return nil, fmt.Errorf("%s is %s: %s", name, f.app.State, cured(f.app))
	}
	peer, err := d.trust.Get(transport.ID(origin.ID))
	if err != nil {
		return nil, fmt.Errorf("%s was started on %s, which is not paired with this host; pair them, or copy the files out: hither files %s --fetch FOLDER", name, origin.Name, name)
	}
	src := files.NewSource(d.engine.env.Hasher)
	need, err := src.Need(ctx, layer.Survey(d.engine.env.Self))
	if err != nil {
		return nil, err
	}
	// The system's files stay.
	need.Entries = slices.DeleteFunc(need.Entries, func(e files.Entry) bool { return e.Use&files.Document == 0 })
	need.Trees = nil
	outcomes, err := d.sendHome(ctx, peer, &homeAsk{App: f.app.ID, Name: name}, src, need)
	if err != nil {
		return nil, fmt.Errorf("returning the files of %s to %s: %w; they are still here", name, peer.Name, err)
	}

	out := &control.Files{App: name, Host: peer.Name, Dir: layer.Dir(), Files: []control.File{}}
	kept, sizes := map[string]bool{}, map[string]int64{}
	for _, e := range need.Entries {
		sizes[e.Path] = e.Size
	}
	for _, o := range outcomes {
		x := control.File{Path: o.Path, Size: sizes[o.Path], State: o.What, Here: o.Where, Why: o.Why}
		if o.What == "kept" {
			kept[o.Path], x.Here = true, ""
			out.Notes = append(out.Notes, fmt.Sprintf("%s stays here: %s", o.Path, o.Why))
		}
		out.Files = append(out.Files, x)
	}
	if len(outcomes) == 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%s has all of it already", peer.Name))
	}
	if f.app.State == "ended" && len(kept) == 0 {
		out.Dir = ""
		return out, layer.Release(d.engine.env.Cache)
	}
	return out, files.Returned(layer.Dir(), need, kept)
}

// sendHome is the conversation of the side that gives.
func (d *Daemon) sendHome(ctx context.Context, peer transport.Peer, ask *homeAsk, src *files.Source, need *files.Need) ([]files.Outcome, error) {
	var err error
	if ask.Need, err = need.Encode(); err != nil {
		return nil, err
	}
	if len(ask.Need) > handover.MaxFrame {
		return nil, errors.New("the list of its files is too long")
	}
	s, end, err := d.converseWith(ctx, peer, frameHome, ask)
	if err != nil {
		return nil, err
	}
	defer end()
	var want homeWant
	if err := s.ReceiveInto(frameHomeWant, &want, handover.MaxFrame); err != nil {
		return nil, fmt.Errorf("waiting for its answer: %w", err)
	}
	if want.Error != "" {
		return nil, errors.New(handover.Plain(want.Error, 1000))
	}
	answer, err := files.DecodeAnswer(want.Answer, need)
	if err != nil {
		return nil, err
	}
	_, sent := src.Send(ctx, s, need, answer, nil)
	if sent == nil {
		sent = s.Close()
	}
	// What the other side says explains a broken stream better.
	var done homeDone
	if err := s.ReceiveInto(frameHomeDone, &done, handover.MaxFrame); err != nil {
		if sent != nil {
			return nil, sent
		}
		return nil, fmt.Errorf("waiting for its confirmation: %w", err)
	}
	if done.Error != "" {
		return nil, errors.New(handover.Plain(done.Error, 1000))
	}
	return done.Outcomes, sent
}

// takeHome is the conversation of the origin.
func (d *Daemon) takeHome(c *transport.Conn, s *transport.Stream, first transport.Frame) error {
	defer context.AfterFunc(d.ctx, s.Cancel)()
	var ask homeAsk
	if err := first.Decode(&ask); err != nil {
		return err
	}
	if err := d.mayReturn(d.ctx, string(c.Peer().ID), ask.App, ask.Name); err != nil {
		return d.lastWord(c, s, frameHomeWant, homeWant{Error: withCure(err)}, err)
	}
	in, answer, leave, err := d.beginHome(&ask)
	if err != nil {
		return d.lastWord(c, s, frameHomeWant, homeWant{Error: err.Error()}, err)
	}
	defer leave()
	if err := s.Frames.Send(frameHomeWant, homeWant{Answer: answer}); err != nil {
		return errors.Join(err, in.Discard())
	}
	outcomes, err := d.comeHome(in, s)
	for _, o := range outcomes {
		log.Printf("returned by %s: %s: %s %s %s", c.Peer().Name, o.Path, o.What, o.Where, o.Why)
	}
	done := homeDone{Outcomes: outcomes}
	if err != nil {
		done = homeDone{Error: err.Error()}
	}
	return d.lastWord(c, s, frameHomeDone, done, err)
}

// lastWord says something and waits until it was read.
func (d *Daemon) lastWord(c *transport.Conn, s *transport.Stream, kind transport.FrameType, say any, err error) error {
	if serr := errors.Join(s.Frames.Send(kind, say), s.Close()); serr != nil {
		return errors.Join(err, serr)
	}
	select {
	case <-c.Done():
	case <-time.After(2 * time.Second):
	case <-d.ctx.Done():
	}
	return err
}

// beginHome looks at what a peer wants to return. After leave another one may
// come for the same app.
func (d *Daemon) beginHome(ask *homeAsk) (in *files.Incoming, answer []byte, leave func(), err error) {
	if !paths.ValidID(ask.App) || !d.departed.started(ask.App) {
		return nil, nil, nil, fmt.Errorf("%.64q was not started on %s, so nothing of it is at home there", ask.Name, d.self())
	}
	if f, err := d.find(ask.App); err == nil && f.capsule != nil {
		return nil, nil, nil, fmt.Errorf("%s is on %s itself", f.app.Name, d.self())
	}
	d.mu.Lock()
	busy := d.returns[ask.App]
	d.returns[ask.App] = true
	d.mu.Unlock()
	if busy {
		return nil, nil, nil, errors.New("its files are being returned just now")
	}
	leave = func() {
		d.mu.Lock()
		delete(d.returns, ask.App)
		d.mu.Unlock()
	}
	defer func() {
		if err != nil {
			leave()
		}
	}()
	dir, err := returnDir(ask.App)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := d.endReturn(dir); err != nil { // an earlier one, broken off
		return nil, nil, nil, err
	}
	need, err := files.DecodeNeed(ask.Need)
	if err != nil {
		return nil, nil, nil, err
	}
	in, err = files.NewIncoming(files.IncomingOptions{Dir: dir, Self: d.engine.env.Self, Home: d.engine.env.Home,
		Hasher: d.engine.env.Hasher, Cache: d.engine.env.Cache})
	if err != nil {
		return nil, nil, nil, err
	}
	a, err := in.Answer(d.ctx, need)
	if err == nil && !in.AtHome() {
		err = fmt.Errorf("%s says that %.64q was started elsewhere", need.From.Name, ask.Name)
	}
	if err == nil {
		answer, err = a.Encode()
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, in.Discard())
	}
	return in, answer, leave, nil
}

// comeHome takes the files and puts them in their places.
func (d *Daemon) comeHome(in *files.Incoming, s *transport.Stream) ([]files.Outcome, error) {
	defer in.Close()
	_, err := in.Receive(d.ctx, bufio.NewReaderSize(s, 256<<10), nil)
	if err == nil {
		err = in.Seal()
	}
	var h *files.Homecoming
	if err == nil {
		h, err = in.Stage(d.ctx)
	}
	if err != nil {
		return nil, errors.Join(err, in.Discard())
	}
	outcomes, err := h.Commit(context.WithoutCancel(d.ctx))
	if err != nil {
		h.Close() // what is begun is brought to its end later
		return nil, err
	}
	if err := h.Finish(); err != nil {
		return nil, err
	}
	return outcomes, d.endReturn(in.Layer.Dir())
}

// returnDir is where files lie that come home without their app.
func returnDir(id string) (string, error) {
	dir, err := paths.CapsuleData(id)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "return"), nil
}

// endReturn ends a return that was broken off here, and clears its folder. The
// other side still has what found no place.
func (d *Daemon) endReturn(dir string) error {
	home, err := files.ReopenHomecoming(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case home.Begun():
		if _, err := home.Commit(context.WithoutCancel(d.ctx)); err != nil {
			home.Close()
			return err
		}
		if err := home.Finish(); err != nil {
			return err
		}
	default:
		if err := home.Discard(); err != nil {
			return err
		}
	}
	return files.Clear(dir)
}
