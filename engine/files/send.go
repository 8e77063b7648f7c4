package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// Send sends the bytes that the answer to n wants. A file may change while it
// is sent: what went is noted in n and in the source, so that Recheck sees it.
func (src *Source) Send(ctx context.Context, w io.Writer, n *Need, a *Answer, note func(int64)) (Stats, error) {
	var stats Stats
	fail := func(err error) (Stats, error) { return stats, fmt.Errorf("sending the app's files: %w", err) }
	v, err := openView(src.s.Root)
	if err != nil {
		return fail(err)
	}
	defer v.Close()
	c := &collector{src: src, s: &src.s, view: v}
	s, err := newSender(w, note)
	if err != nil {
		return fail(err)
	}
	for _, i := range a.Want {
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		if int(i) >= len(n.Entries) {
			return fail(damaged("entry %d is wanted of %d", i, len(n.Entries)))
		}
		e := &n.Entries[i]
		sum, size, err := src.sendOne(c, s, i, e)
		if err != nil {
			return fail(err)
		}
		stats.Files++
		stats.Content += size
		e.Hash, e.Size = sum, size
		if mine := src.entry(e.Path); mine != nil {
			*mine = *e
		}
	}
	for _, i := range a.Trees {
		if err := src.sendTree(ctx, v, s, n, i, &stats); err != nil {
			return fail(err)
		}
	}
	err = s.stop()
	stats.Bytes = s.bytes
	return stats, err
}

func (src *Source) sendOne(c *collector, s *sender, i uint32, e *Entry) (Hash, int64, error) {
	k := src.state[e.Path]
	if k == nil {
		return Hash{}, 0, fmt.Errorf("%s is wanted and not known here", e.Path)
	}
	f, st, err := c.open(k.at)
	if errors.Is(err, unix.ENOENT) {
		return Hash{}, 0, fmt.Errorf("%s was removed while it was to be sent; try again: %w", e.Path, err)
	}
	if err != nil {
		return Hash{}, 0, err
	}
	defer f.Close()
	e.Mode, e.MTime = st.Mode&0o1777, st.Mtim.Nano()
	it := &item{Index: i, Kind: Regular, Mode: e.Mode, MTime: e.MTime, Size: st.Size}
	if e.Use&Document != 0 {
		it.XAttrs = readXAttrs(f)
	}
	if err := s.item(it); err != nil {
		return Hash{}, 0, err
	}
	if k.id = identityOf(&st); time.Since(time.Unix(0, k.id.CTime)) < racy {
		k.fresh = true // the next change may not show in its times
	}
	return s.content(f, st.Size)
}
