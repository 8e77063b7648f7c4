package move

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/capsule"
	"hither/engine/checkpoint"
	"hither/engine/files"
	"hither/engine/handle"
	"hither/engine/handover"
	"hither/engine/image"
	"hither/engine/kernel"
	"hither/engine/memory"
	"hither/engine/tracee"
)

// Source is the app on the host that it leaves: handover.Source.
type Source struct {
	env Env
	cap *capsule.Capsule
	// To is the destination's name, for those who are attached.
	To string

	state    capsule.State
	watched  handle.Watched
	root     string
	trees    []string
	files    *files.Source
	args     []files.Args
	tracer   *tracee.Tracer
	frozen   *checkpoint.Frozen
	app      *image.App
	paused   bool
	gathered func() // ends the app's being gathered on one processor; nil: it is not
	held     bool   // SIGSTOP is pending everywhere
	portals  portals

	vdso      []byte // the hash of this kernel's
	otherVDSO bool   // the destination has another one

	budget uint64 // of memory that the destination takes ahead
	ahead  *checkpoint.Ahead
	rounds rounds
}

var _ handover.Source = (*Source)(nil)

// portals is what the keeper hands over, and what only it knows.
type portals struct {
	Screen []byte `json:"screen,omitempty"`
	Held   []byte `json:"held,omitempty"`
	Main   int    `json:"main"`
	Status *int   `json:"status,omitempty"`
	TTY    bool   `json:"tty,omitempty"`
	// Ahead are the processes (inside) of which memory has come ahead that counts.
	Ahead []int `json:"ahead,omitempty"`
}

const maxPortals = 64 << 20

// NewSource takes a capsule of this host for a move.
func NewSource(env Env, c *capsule.Capsule, to string) *Source {
	return &Source{env: env, cap: c, To: to, root: fmt.Sprintf("/proc/%d/root", c.InitPid())}
}

// Survey looks at the running app; see handover.Source.
func (s *Source) Survey(ctx context.Context) (*handover.Offer, error) {
	var err error
	if s.state, err = s.cap.Status(ctx); err != nil {
		return nil, err
	}
	spec := s.state.Spec
	problems, watched, err := checkpoint.SurveyWatched(s.cap.InitPid())
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", spec.Name, err)
	}
	// A program that hides itself (keepassxc, ssh-agent) shows itself when it is stopped.
	problems = slices.DeleteFunc(problems, handle.Problem.Unsure)
	if len(problems) > 0 {
		return nil, refusal(problems, s.env.Self.Name)
	}
	s.watched = watched
	machine, err := checkpoint.ThisMachine()
	if err != nil {
		return nil, err
	}
	s.vdso = machine.VDSOHash
	s.trees = ownTrees(s.root, unix.Getuid())
	pids, err := s.processes()
	if err != nil {
		return nil, err
	}
	held, args := look(pids, s.root)
	s.args = args
	survey, err := s.survey(held, args)
	if err != nil {
		return nil, err
	}
	s.files = files.NewSource(s.env.Hasher)
	need, err := s.files.Need(ctx, survey)
	if err != nil {
		return nil, err
	}
	encoded, err := need.Encode()
	if err != nil {
		return nil, fmt.Errorf("encoding the list of files: %w", err)
	}
	if err := s.env.Hasher.Save(); err != nil {
		log.Printf("keeping the cache of hashes: %v", err)
	}
	offer := &handover.Offer{
		App: spec.ID, Name: spec.Name, Machine: machine, Limits: hardLimits(pids), Processes: len(pids), Files: encoded,
		Origin: survey.Origin.ID,
	}
	offer.Limits[unix.RLIMIT_NOFILE].Cur = max(offer.Limits[unix.RLIMIT_NOFILE].Cur, uint64(descriptorsOpen(pids)))
	offer.Threads, offer.Memory = sizes(pids)
	rec := record{Spec: spec, Main: s.state.Main, Status: s.state.Status, UID: unix.Getuid(), GID: unix.Getgid(), TTY: spec.TTY}
	// Last: the older this reading is when it arrives, the more the app's
	// clock lags.
	if rec.Clocks.Boottime, err = kernel.ClockOf(s.cap.InitPid(), unix.CLOCK_BOOTTIME); err != nil {
		return nil, err
	}
	if rec.Clocks.Monotonic, err = kernel.ClockOf(s.cap.InitPid(), unix.CLOCK_MONOTONIC); err != nil {
		return nil, err
	}
	if offer.Capsule, err = rec.encode(); err != nil {
		return nil, fmt.Errorf("describing the capsule: %w", err)
	}
	return offer, nil
}

// processes are the app's: pid inside -> pid here, without pid 1.
func (s *Source) processes() (map[int]int, error) {
	pids, err := s.cap.Processes()
	if err != nil {
		return nil, err
	}
	delete(pids, 1)
	return pids, nil
}

func (s *Source) survey(held []files.Held, args []files.Args) (files.Survey, error) {
	spec := s.state.Spec
	v := files.Survey{
		Root: s.root, Self: s.env.Self, Origin: files.Host{ID: spec.Origin.HostID, Name: spec.Origin.HostName},
		Home: spec.Home, Whole: s.trees, Held: held, Args: args, UID: unix.Getuid(),
	}
	if v.Origin.ID == "" {
		v.Origin = s.env.Self
	}
	if spec.LayerDir != "" {
		var err error
		if v.Layer, err = files.OpenLayer(spec.LayerDir); err != nil {
			return v, err
		}
	}
	return v, nil
}

// SendFiles see handover.Source.
func (s *Source) SendFiles(ctx context.Context, answer *handover.Answer, w io.Writer, report handover.Report) (handover.FileTotals, error) {
	a, err := files.DecodeAnswer(answer.Files, s.files.Needed())
	if err != nil {
		return handover.FileTotals{}, fmt.Errorf("reading which files are wanted: %w", err)
	}
	s.budget = answer.Ahead
	s.otherVDSO = !bytes.Equal(answer.VDSO, s.vdso)
	var done uint64
	stats, err := s.files.Send(ctx, w, s.files.Needed(), a, func(n int64) {
		done += uint64(n)
		report(done, uint64(a.Bytes))
	})
	return handover.FileTotals{Files: stats.Files, Bytes: uint64(stats.Content)}, err
}

// freezeNow is one try of Freeze.
func (s *Source) freezeNow(ctx context.Context) (*handover.Frozen, error) {
	s.paused = true
	if err := s.cap.Part(ctx); err != nil {
		return nil, err
	}
	s.tracer = tracee.New()
	out := &handover.Frozen{Pid: s.cap.InitPid(), Start: s.state.Init.Start}
	err := s.tracer.Do(func() error {
		var err error
		if s.frozen, err = checkpoint.Freeze(s.tracer, s.cap.InitPid()); err != nil {
			return err
		}
		out.Since = s.frozen.Since
		s.frozen.Keep, s.frozen.Ahead = s.keepProcessors, s.ahead
		if s.portals.Screen, s.portals.Held, err = s.cap.Pause(ctx); err != nil {
			return err
		}
		id := checkpoint.Identity{ID: s.state.Spec.ID, Name: s.state.Spec.Name, Main: s.state.Main, Portals: s.cap.Portals(), Watched: s.watched, OtherVDSO: s.otherVDSO}
		if s.app, err = s.frozen.Capture(id); err != nil {
			return err
		}
		for _, p := range s.frozen.Procs {
			if p.StopSignal != 0 {
				out.Stopped = append(out.Stopped, p.Pid)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.portals.Ahead = s.frozen.AheadOf
	s.portals.Main, s.portals.TTY = s.state.Main, s.state.Spec.TTY
	if st, err := s.cap.Status(ctx); err == nil {
		s.portals.Status = st.Status
	}
	encoded, err := s.app.Encode()
	out.Image = pack(encoded)
	return out, err
}

// SendMemory see handover.Source; the package comment has the stream's order.
func (s *Source) SendMemory(ctx context.Context, w io.Writer, report handover.Report) (handover.MemoryTotals, error) {
	var none handover.MemoryTotals
	text, err := json.Marshal(s.portals)
	if err != nil {
		return none, err
	}
	if err := writeBlock(w, text); err != nil {
		return none, fmt.Errorf("sending the terminal's picture: %w", err)
	}
	if err := s.sendChanged(ctx, w); err != nil {
		return none, err
	}
	for _, dir := range s.trees {
		if _, _, err := files.SendTree(ctx, w, s.root+dir, files.TreeOptions{}); err != nil {
			return none, fmt.Errorf("sending %s: %w", dir, err)
		}
	}
	total := uint64(0)
	for _, m := range s.frozen.Memory {
		total += memory.Size(m.Ranges)
	}
	told := s.telling(ctx, report)
	totals, err := memory.Send(ctx, w, s.frozen.Memory, memory.Options{
		Progress: func(t memory.Totals) { told(t.Read, total) }})
	return handover.MemoryTotals{Bytes: totals.Bytes}, err
}

// sendChanged sends what changed of the files while they travelled.
func (s *Source) sendChanged(ctx context.Context, w io.Writer) error {
	// Arguments name the same files as before, or they are held by now.
	held, err := lookImage(s.app)
	if err != nil {
		return err
	}
	survey, err := s.survey(held, s.args)
	if err != nil {
		return err
	}
	delta, err := s.files.Recheck(ctx, survey)
	if err != nil {
		return err
	}
	text, err := delta.Encode()
	if err != nil {
		return err
	}
	if err := writeBlock(w, text); err != nil {
		return fmt.Errorf("sending what changed of the files: %w", err)
	}
	if len(delta.Entries) == 0 {
		return nil
	}
	_, err = s.files.Send(ctx, w, delta, delta.Everything(), nil)
	return err
}

// keepProcessors is checkpoint.Frozen.Keep; scattered is its end.
func (s *Source) keepProcessors(before kernel.Processors) (err error) {
	s.gathered, err = s.cap.Gathered(before)
	return err
}

func (s *Source) scattered() {
	if s.gathered != nil {
		s.gathered()
		s.gathered = nil
	}
}

// Hold see handover.Source.
func (s *Source) Hold() error {
	s.held = true
	for _, p := range s.frozen.Procs {
		if p.Zombie {
			continue
		}
		if err := unix.Kill(p.Pid, unix.SIGSTOP); err != nil && err != unix.ESRCH {
			return fmt.Errorf("holding process %d: %w", p.Pid, err)
		}
	}
	return nil
}

// Thaw see handover.Source.
func (s *Source) Thaw() error { return errors.Join(s.thaw(), s.closeAhead()) }

// thaw lets the app run on, for now.
func (s *Source) thaw() error {
	var errs []error
	if s.frozen != nil {
		stopped := []int{}
		for _, p := range s.frozen.Procs {
			if p.StopSignal != 0 {
				stopped = append(stopped, p.Pid)
			}
		}
		procs := s.frozen.Procs
		errs = append(errs, s.tracer.Do(s.frozen.Thaw))
		s.scattered()
		s.frozen = nil
		if s.held {
			// SIGCONT takes back a SIGSTOP that is pending, and wakes what
			// has stopped by it.
			for _, p := range procs {
				if !p.Zombie && !slices.Contains(stopped, p.Pid) {
					if err := unix.Kill(p.Pid, unix.SIGCONT); err != nil && err != unix.ESRCH {
						errs = append(errs, fmt.Errorf("waking process %d: %w", p.Pid, err))
					}
				}
			}
		}
	}
	if s.tracer != nil {
		errs = append(errs, s.tracer.Close())
		s.tracer = nil
	}
	if s.paused {
		s.paused = false
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		errs = append(errs, s.cap.Resume(ctx))
	}
	return errors.Join(errs...)
}

// Release see handover.Source.
func (s *Source) Release() ([]byte, error) {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	var errs []error
	last, err := Leave(ctx, s.cap, s.To)
	if err != nil {
		log.Printf("%v", err) // the keeper may be gone; the app is elsewhere all the same
	}
	errs = append(errs, s.cap.Kill(), s.closeAhead())
	s.scattered()
	if s.frozen != nil {
		errs = append(errs, s.tracer.Do(func() error {
			if s.frozen.Handles != nil {
				s.frozen.Handles.Close()
			}
			return s.tracer.Kill(s.frozen.Procs)
		}))
		s.frozen = nil
	}
	if s.tracer != nil {
		errs = append(errs, s.tracer.Close())
		s.tracer = nil
	}
	if dir := s.state.Spec.LayerDir; dir != "" {
		// All of it has gone along.
		if layer, err := files.OpenLayer(dir); err == nil {
			errs = append(errs, layer.Release(s.env.Cache))
		}
	}
	return last, errors.Join(errs...)
}
