package bridge

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/display/xwire"
)

// painter carries pictures from the app's server to the desktop's.
//
// Damage is reported once, when there is some (NonEmpty), and then fetched and
// reset in one step on the server: what is drawn after it is reported again, so
// nothing is lost, however much is drawn meanwhile. The changed parts are written
// by the app's server into memory that both servers share (MIT-SHM 1.2), and
// taken from there by the desktop's. Until that has said that it is done, no
// other parts are fetched, so a desktop that is slow gets fewer pictures.
type painter struct {
	memory          *os.File // nil: pictures go over the sockets
	size            int
	appSeg, deskSeg xwire.ShmSeg
	appHas, deskHas bool
	busy            bool // the desktop's server reads the memory
	region          xwire.XFixesRegion
	stopTimer       func()
	socketsOnly     bool
	pictures        int // counted for tests
}

const (
	leastMemory = 4 << 20
	mostMemory  = 64 << 20
	// maxParts is up to how many parts are carried one by one.
	maxParts = 16
	// maxStrip is how much goes over a socket at once.
	maxStrip = 256 << 10
)

// pace bounds how often a window is painted: burst times at once, which keeps
// echoes of keys immediate, and otherwise every interval.
type pace struct {
	recent [burst]time.Time
	next   int
}

const (
	burst    = 4
	interval = 8 * time.Millisecond
)

// wait is how long the window must wait.
func (p *pace) wait(now time.Time) time.Duration {
	return p.recent[p.next].Add(burst * interval).Sub(now)
}

func (p *pace) note(now time.Time) {
	p.recent[p.next] = now
	p.next = (p.next + 1) % burst
}

// forget drops what the connections held, which are closed.
func (p *painter) forget() {
	if p.memory != nil {
		p.memory.Close()
	}
	if p.stopTimer != nil {
		p.stopTimer()
	}
	*p = painter{socketsOnly: p.socketsOnly}
}

// share makes memory of at least size for both servers, if they take it.
func (b *Bridge) share(size int) {
	p := &b.paint
	if p.socketsOnly || p.memory != nil && p.size >= size {
		return
	}
	b.unshare()
	size = (min(max(size, leastMemory), mostMemory) + 1<<20 - 1) &^ (1<<20 - 1)
	err := func() error {
		if b.o.NoSharedMemory || !b.visuals.isRight() {
			return fmt.Errorf("not wanted")
		}
		fd, err := unix.MemfdCreate("hither-pictures", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			return err
		}
		p.memory = os.NewFile(uintptr(fd), "pictures")
		if err := p.memory.Truncate(int64(size)); err != nil {
			return err
		}
		p.appSeg, p.deskSeg = xwire.NewID[xwire.ShmSeg](b.App), xwire.NewID[xwire.ShmSeg](b.Desk)
		if err := b.Desk.ShmAttachFdChecked(p.deskSeg, p.memory, true); err != nil {
			return err
		}
		p.deskHas = true
		if err := b.App.ShmAttachFdChecked(p.appSeg, p.memory, false); err != nil {
			return err
		}
		p.appHas = true
		return nil
	}()
	if err != nil {
		b.unshare()
		p.socketsOnly = true
		b.log.Info("pictures go over the sockets", "reason", err)
		return
	}
	p.size = size
}

// unshare takes the memory from both servers.
func (b *Bridge) unshare() {
	p := &b.paint
	if p.appHas && b.App != nil {
		b.App.ShmDetach(p.appSeg)
	}
	if p.deskHas {
		b.Desk.ShmDetach(p.deskSeg)
	}
	if p.memory != nil {
		p.memory.Close()
	}
	p.memory, p.size, p.appHas, p.deskHas, p.busy = nil, 0, false, false, false
}

// job is a part of a window's picture on its way.
type job struct {
	w      *window
	part   rect
	offset int
	image  xwire.Cookie[xwire.ShmGetImageReply]
}

// paintAll carries what has changed, as far as it may be now.
func (b *Bridge) paintAll() error {
	p := &b.paint
	if p.busy {
		return nil // goes on when the desktop's server is done
	}
	var due []*window
	now := time.Now()
	var soonest time.Duration
	for _, w := range b.windows {
		if !w.viewable || w.pixmap == 0 || w.sync.waits != nil || !w.damaged && !w.whole && len(w.parts) == 0 {
			continue
		}
		if d := w.paces.wait(now); d > 0 {
			if soonest == 0 || d < soonest {
				soonest = d
			}
			continue
		}
		due = append(due, w)
	}
	if soonest > 0 && p.stopTimer == nil {
		p.stopTimer = b.after(soonest, func() { p.stopTimer = nil })
	}
	if len(due) == 0 {
		return nil
	}
	largest := 0
	for _, w := range due {
		w.paces.note(now)
		if b.scale != 1 {
			if _, fresh := b.sourceOf(w); fresh {
				w.whole = true
			}
		}
		largest = max(largest, 4*w.picture().w*w.picture().h)
	}
	b.share(largest)
	jobs, err := b.fetchDamage(due)
	if err != nil || len(jobs) == 0 {
		return err
	}
	if p.memory == nil {
		return b.carryBySocket(jobs)
	}
	return b.carryByMemory(jobs)
}

// fetchDamage asks what has changed in the windows, and resets it.
func (b *Bridge) fetchDamage(due []*window) ([]job, error) {
	c, p := b.App, &b.paint
	if p.region == 0 {
		p.region = xwire.NewID[xwire.XFixesRegion](c)
		c.XFixesCreateRegion(p.region, nil)
	}
	cookies := map[*window]xwire.Cookie[xwire.XFixesFetchRegionReply]{}
	for _, w := range due {
		switch {
		case w.whole:
			c.DamageSubtract(w.damage, 0, 0)
		case w.damaged:
			c.DamageSubtract(w.damage, 0, p.region)
			cookies[w] = c.XFixesFetchRegionAsync(p.region)
		}
	}
	var jobs []job
	for _, w := range due {
		parts := w.parts
		if cookie, ok := cookies[w]; ok {
			r, err := cookie.Wait()
			if err != nil {
				if c.Err() != nil {
					return nil, err
				}
				continue // it has gone
			}
			for _, a := range r.Rectangles {
				parts = append(parts, rect{int(a.X) + w.border, int(a.Y) + w.border, int(a.Width), int(a.Height)})
			}
		}
		all := w.picture()
		if w.whole {
			parts = []rect{all}
		}
		w.damaged, w.whole, w.parts = false, false, nil
		for _, part := range simplify(parts) {
			if part = part.intersect(all); !part.empty() {
				jobs = append(jobs, job{w: w, part: part})
			}
		}
	}
	return jobs, nil
}

// simplify makes one part of many.
func simplify(parts []rect) []rect {
	if len(parts) <= maxParts {
		return parts
	}
	all := parts[0]
	for _, r := range parts[1:] {
		x, y := min(all.x, r.x), min(all.y, r.y)
		all = rect{x, y, max(all.right(), r.right()) - x, max(all.bottom(), r.bottom()) - y}
	}
	return []rect{all}
}

// carryByMemory has one server write and the other read.
func (b *Bridge) carryByMemory(jobs []job) error {
	p := &b.paint
	used := 0
	var under []job
	for _, j := range jobs {
		// What does not fit comes in the next round.
		if rows := (p.size - used) / (4 * j.part.w); rows < j.part.h {
			rest := j.part
			rest.y, rest.h = rest.y+rows, rest.h-rows
			j.w.parts = append(j.w.parts, rest)
			if j.part.h = rows; rows == 0 {
				continue
			}
		}
		j.offset = used
		used += 4 * j.part.w * j.part.h
		j.image = b.App.ShmGetImageAsync(xwire.Drawable(j.w.pixmap), clip16(j.part.x), clip16(j.part.y), uint16(j.part.w), uint16(j.part.h),
			0xffffffff, uint8(xwire.ImageFormatZPixmap), p.appSeg, uint32(j.offset))
		under = append(under, j)
	}
	var got []job
	for _, j := range under {
		if _, err := j.image.Wait(); err == nil {
			got = append(got, j)
		} else if b.App.Err() != nil {
			return err
		}
		// Else it has gone or changed its size, and the news is on its way.
	}
	for i, j := range got {
		last := i == len(got)-1
		p.busy = p.busy || last
		b.Desk.ShmPutImage(b.canvas(j.w), j.w.gc, uint16(j.part.w), uint16(j.part.h), 0, 0, uint16(j.part.w), uint16(j.part.h),
			clip16(j.part.x), clip16(j.part.y), j.w.native, uint8(xwire.ImageFormatZPixmap), last, p.deskSeg, uint32(j.offset))
	}
	if b.scale != 1 {
		for _, j := range got {
			b.stretch(j.w, j.w.source.to, j.part)
		}
	}
	p.pictures += len(got)
	return nil
}

// canvas is where a window's picture is put on the desktop.
func (b *Bridge) canvas(w *window) xwire.Drawable {
	if b.scale != 1 {
		return xwire.Drawable(w.source.pixmap)
	}
	return xwire.Drawable(w.desk)
}

// carryBySocket takes the pictures through the bridge, in strips, and the
// desktop's server answers at the end, so that no more are sent than it takes.
func (b *Bridge) carryBySocket(jobs []job) error {
	for _, j := range jobs {
		rows := max(1, maxStrip/(4*j.part.w))
		for y := 0; y < j.part.h; y += rows {
			part := rect{j.part.x, j.part.y + y, j.part.w, min(rows, j.part.h-y)}
			image, err := b.App.GetImage(xwire.ImageFormatZPixmap, xwire.Drawable(j.w.pixmap), clip16(part.x), clip16(part.y), uint16(part.w), uint16(part.h), 0xffffffff)
			if err != nil {
				if b.App.Err() != nil {
					return err
				}
				break
			}
			if len(image.Data) < 4*part.w*part.h {
				break
			}
			b.put(b.canvas(j.w), j.w, part, image.Data[:4*part.w*part.h])
		}
		if b.scale != 1 {
			b.stretch(j.w, j.w.source.to, j.part)
		}
		b.paint.pictures++
	}
	return b.Desk.Sync()
}

// put sends a part of a picture to the desktop.
func (b *Bridge) put(to xwire.Drawable, w *window, part rect, data []byte) {
	if l := b.visuals.looks[b.visuals.plain]; w.native == l.depth && !b.visuals.isRight() {
		data = l.convert(data, part.w, part.h)
	}
	b.Desk.PutImage(xwire.ImageFormatZPixmap, to, w.gc, uint16(part.w), uint16(part.h), clip16(part.x), clip16(part.y), 0, w.native, data)
}
