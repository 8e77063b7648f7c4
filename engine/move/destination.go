package move

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/capsule"
	"hither/engine/files"
	"hither/engine/handle"
	"hither/engine/handover"
	"hither/engine/image"
	"hither/engine/kernel"
	"hither/engine/memory"
	"hither/engine/restore"
	"hither/engine/tracee"
)

// Destination is the app on the host that it comes to: handover.Destination.
type Destination struct {
	env Env

	offer    *handover.Offer
	rec      *record
	need     *files.Need
	incoming *files.Incoming
	homing   *files.Homecoming // of files that come home with the app
	mounts   []files.Mount
	cap      *capsule.Capsule
	tracer   *tracee.Tracer
	builder  *restore.Builder
	portals  portals
	notes    []string
	budget   uint64 // of memory that may come ahead
	came     int64  // CLOCK_MONOTONIC of this host when the offer came
}

var _ handover.Destination = (*Destination)(nil)

// NewDestination is for one app that may come.
func NewDestination(env Env) *Destination { return &Destination{env: env} }

// Prepare see handover.Destination.
func (d *Destination) Prepare(ctx context.Context, r io.Reader, report handover.Report) error {
	var done int64
	in := bufio.NewReaderSize(r, 1<<20)
	_, err := d.incoming.Receive(ctx, in, func(n int64) {
		done += n
		report(uint64(done), 0)
	})
	if err == nil {
		err = atEnd(in)
	}
	if err != nil {
		return err
	}
	if d.mounts, err = d.incoming.Plan(); err != nil {
		return err
	}
	return d.start(ctx)
}

// start makes the empty capsule.
func (d *Destination) start(ctx context.Context) error {
	spec := d.rec.Spec
	spec.Restore = true
	spec.Detached = false
	spec.Clocks = capsule.ClockOffsets{}
	if d.rec.Clocks.Monotonic != 0 {
		spec.Clocks.Monotonic = d.rec.Clocks.Monotonic - d.came
		spec.Clocks.Boottime = d.rec.Clocks.Boottime - kernel.Clock(unix.CLOCK_BOOTTIME) + (monotonic() - d.came)
	}
	spec.Mounts = mounts(d.mounts)
	if !d.incoming.AtHome() {
		spec.LayerDir = d.env.LayerDir(spec.ID)
	}
	var err error
	if d.cap, err = capsule.Start(ctx, spec, [3]*os.File{}); err != nil {
		return fmt.Errorf("making a capsule for %s: %w", spec.Name, err)
	}
	d.tracer = tracee.New()
	return d.tracer.Do(func() (err error) {
		d.builder, err = restore.Take(d.tracer, d.cap.InitPid())
		return err
	})
}

func mounts(plan []files.Mount) []capsule.Mount {
	out := make([]capsule.Mount, 0, len(plan))
	for _, m := range plan {
		out = append(out, capsule.Mount(m))
	}
	return out
}

// Restore see handover.Destination.
func (d *Destination) Restore(ctx context.Context, encoded []byte, r io.Reader, report handover.Report) error {
	encoded, err := unpack(encoded)
	if err != nil {
		return fmt.Errorf("taking the image: %w", err)
	}
	app, err := image.Decode(encoded)
	if err != nil {
		return err
	}
	if app.ID != d.offer.App {
		return fmt.Errorf("the image is of app %s, the offer was of %s", app.ID, d.offer.App)
	}
	// One buffer for all parts: package files reads ahead in a buffer, and
	// takes this one instead of its own.
	in := bufio.NewReaderSize(r, 1<<20)
	text, err := readBlock(in, maxPortals)
	if err != nil {
		return fmt.Errorf("taking the terminal's picture: %w", err)
	}
	if err := json.Unmarshal(text, &d.portals); err != nil {
		return fmt.Errorf("taking the terminal's picture: %w", err)
	}
	if err := d.takeChanged(ctx, in); err != nil {
		return err
	}
	root := fmt.Sprintf("/proc/%d/root", d.cap.InitPid())
	own := ownTrees(root, unix.Getuid())
	for _, dir := range d.need.Whole {
		if !slices.Contains(own, dir) {
			return fmt.Errorf("the app brings %s along, of which it has none of its own here", dir)
		}
	}
	for _, dir := range own {
		if !slices.Contains(d.need.Whole, dir) {
			continue
		}
		if _, err := files.ReceiveTree(ctx, in, root+dir, 0, nil); err != nil {
			return fmt.Errorf("taking %s: %w", dir, err)
		}
	}
	if err := d.incoming.Seal(); err != nil {
		return err
	}
	if d.homing, err = d.incoming.Stage(ctx); err != nil {
		return err
	}
	return d.tracer.Do(func() error { return d.restore(ctx, app, in, report) })
}

// restore runs on the tracer's thread.
func (d *Destination) restore(ctx context.Context, app *image.App, r *bufio.Reader, report handover.Report) error {
	opens := d.homing.Opens()
	env := handle.Env{Pid: d.cap.InitPid(), Path: func(f *image.File) string {
		if p, ok := opens[f.Path]; ok {
			return p
		}
		return f.Path
	}}
	if err := d.builder.StageOnly(d.portals.Ahead); err != nil {
		return fmt.Errorf("rebuilding %s: %w", app.Name, err)
	}
	if err := d.builder.Begin(app, env); err != nil {
		return fmt.Errorf("rebuilding %s: %w", app.Name, err)
	}
	came := make(chan error, 1)
	go func() {
		_, err := memory.Receive(ctx, r, d.builder.Place)
		came <- err
	}()
	furnished := d.builder.Furnish()
	if err := <-came; err != nil {
		return fmt.Errorf("taking the memory of %s: %w", app.Name, err)
	}
	if furnished != nil {
		return fmt.Errorf("rebuilding %s: %w", app.Name, furnished)
	}
	if err := atEnd(r); err != nil {
		return fmt.Errorf("taking the memory of %s: %w", app.Name, err)
	}
	if err := d.builder.Finish(); err != nil {
		return fmt.Errorf("rebuilding %s: %w", app.Name, err)
	}
	// The capsule's clock was set from a reading that took its time to come
	// here. It may be late, but it never jumps back.
	if late := d.builder.ClockBehind(); late > 0 {
		if late > maxClockBehind {
			return fmt.Errorf("rebuilding %s: its clock would jump back by %v", app.Name, late)
		}
		time.Sleep(late)
	}
	return nil
}

// maxClockBehind bounds the wait for the clock: it is the time the offer took
// to come, less the downtime.
const maxClockBehind = 10 * time.Second

// takeChanged takes what changed of the files since Prepare.
func (d *Destination) takeChanged(ctx context.Context, r io.Reader) error {
	text, err := readBlock(r, handover.MaxFrame)
	if err != nil {
		return fmt.Errorf("taking what changed of the files: %w", err)
	}
	delta, err := files.DecodeNeed(text)
	if err != nil {
		return fmt.Errorf("taking what changed of the files: %w", err)
	}
	if len(delta.Entries) == 0 && len(delta.Gone) == 0 {
		return nil
	}
	if err := d.incoming.Update(ctx, delta); err != nil {
		return err
	}
	if len(delta.Entries) > 0 {
		if _, err := d.incoming.Receive(ctx, r, nil); err != nil {
			return fmt.Errorf("taking what changed of the files: %w", err)
		}
	}
	plan, err := d.incoming.Plan()
	if err != nil {
		return err
	}
	if files.SamePlan(plan, d.mounts) {
		return nil
	}
	// The app opened files meanwhile that need other places: the empty
	// capsule is made anew.
	d.mounts = plan
	return d.anew(ctx)
}

// Resume see handover.Destination.
func (d *Destination) Resume() error {
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	if !d.incoming.AtHome() {
		if err := d.incoming.Layer.Live(); err != nil {
			return errors.Join(err, d.Abandon())
		}
	}
	// The app's files get their names before it runs. What goes wrong with one
	// does not keep the app from running: its content lies safely beside, and
	// this host's daemon tries again.
	outcomes, err := d.homing.Commit(ctx)
	if err != nil {
		log.Printf("%s: %v", d.offer.Name, err)
		d.notes = append(d.notes, err.Error())
	}
	for _, o := range outcomes {
		if o.Where != "" || o.Why != "" {
			d.notes = append(d.notes, note(o))
		}
	}
	err = d.cap.Arrived(ctx, capsule.Arrival{Main: d.portals.Main, Status: d.portals.Status, TTY: d.portals.TTY,
		Screen: d.portals.Screen, Held: d.portals.Held})
	if err == nil {
		err = d.tracer.Do(d.builder.Resume)
	}
	if err == nil {
		err = d.cap.Go()
	}
	if err != nil {
		return errors.Join(err, d.Abandon())
	}
	if err := d.tracer.Close(); err != nil {
		log.Printf("letting go of %s: %v", d.offer.Name, err)
	}
	d.tracer = nil
	return nil
}

// note says to a person what became of a file.
func note(o files.Outcome) string {
	s := o.Path + ": " + o.What
	if o.Where != "" {
		s += ", as " + o.Where
	}
	if o.Why != "" {
		s += " (" + o.Why + ")"
	}
	return s
}

// Settle see handover.Destination.
func (d *Destination) Settle(ctx context.Context) ([]string, error) {
	// Now that the app runs there is time for the disk.
	settle := d.incoming.Layer.Sync
	if d.incoming.AtHome() {
		settle = d.homing.Finish
	} else {
		d.homing.Close()
	}
	if err := settle(); err != nil {
		d.notes = append(d.notes, err.Error())
	}
	d.incoming.Close()
	if d.env.Arrived != nil {
		d.env.Arrived(d.cap)
	}
	d.cap.Close() // the keeper need not wait for us when the app ends
	return d.notes, nil
}

// Abandon see handover.Destination.
func (d *Destination) Abandon() error {
	err := d.stop()
	d.dropIncoming()
	return err
}

func (d *Destination) dropIncoming() {
	if d.incoming == nil {
		return
	}
	if err := d.incoming.Discard(); err != nil {
		log.Printf("discarding the files of %s: %v", d.offer.Name, err)
	}
	d.incoming = nil
}

// stop ends the capsule and whatever is in it.
func (d *Destination) stop() error {
	var errs []error
	if d.cap != nil {
		errs = append(errs, d.cap.Kill())
	}
	if d.tracer != nil {
		if d.builder != nil {
			errs = append(errs, d.tracer.Do(d.builder.Kill))
			d.builder = nil
		}
		errs = append(errs, d.tracer.Close())
		d.tracer = nil
	}
	if d.cap != nil {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		errs = append(errs, d.cap.Stop(ctx, 0))
		d.cap.Close()
		d.cap = nil
	}
	return errors.Join(errs...)
}
