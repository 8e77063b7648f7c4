package handle

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// A timerfd: clock, interval, and expiry as a point of time on the capsule's
// own clock, which goes on through a move; ticks not yet read are set again by
// TFD_IOC_SET_TICKS. Refused: the alarm clocks, which wake a sleeping machine.
var timerfdKind = &kind{name: kindTimerfd, capture: captureTimerfd, blank: func() record { return new(timerfdRecord) }, rebind: rebindTimerfds}

type timerfdRecord struct {
	Clock    int    `cbor:"1,keyasint"`
	Ticks    uint64 `cbor:"2,keyasint,omitempty"`
	Flags    int    `cbor:"3,keyasint,omitempty"` // TFD_TIMER_*, as it was set
	Interval int64  `cbor:"4,keyasint,omitempty"` // ns
	// Expiry is on On, in ns; 0: disarmed.
	Expiry int64 `cbor:"5,keyasint,omitempty"`
	// On is the clock on which Expiry counts: a relative timer of the wall clock does
	// not follow when that is set, and so counts on CLOCK_MONOTONIC.
	On int `cbor:"6,keyasint,omitempty"`
}

func (r *timerfdRecord) validate(*references) error {
	for _, clock := range []int{r.Clock, r.On} {
		if clock != unix.CLOCK_REALTIME && clock != unix.CLOCK_MONOTONIC && clock != unix.CLOCK_BOOTTIME {
			return fmt.Errorf("it counts on clock %d", clock)
		}
	}
	if r.Interval < 0 || r.Expiry < 0 {
		return fmt.Errorf("it expires at %d, every %d ns", r.Expiry, r.Interval)
	}
	return nil
}

func captureTimerfd(c *capturer, d *desc) (record, error) {
	// Asking does what reading would do inside the kernel: an expired interval
	// timer counts its ticks and starts its next round.
	var left unix.ItimerSpec
	if err := unix.TimerfdGettime(d.fd, &left); err != nil {
		return nil, fmt.Errorf("asking for the time left: %w", err)
	}
	info, err := readFdinfo(fmt.Sprintf("/proc/self/fdinfo/%d", d.fd))
	if err != nil {
		return nil, err
	}
	clock, err := info.number("clockid", 10)
	if err != nil {
		return nil, err
	}
	r := &timerfdRecord{Clock: int(clock), Interval: left.Interval.Nano()}
	if r.Clock == unix.CLOCK_REALTIME_ALARM || r.Clock == unix.CLOCK_BOOTTIME_ALARM {
		return nil, refuse(cureClose, "a timer that wakes the machine from sleep")
	}
	if r.Ticks, err = info.number("ticks", 10); err != nil {
		return nil, err
	}
	flags, err := info.number("settime flags", 8)
	if err != nil {
		return nil, err
	}
	r.Flags, r.On = int(flags), r.Clock
	if r.Clock == unix.CLOCK_REALTIME && r.Flags&unix.TFD_TIMER_ABSTIME == 0 {
		r.On = unix.CLOCK_MONOTONIC
	}
	if n := left.Value.Nano(); n > 0 {
		at, err := kernel.ClockOf(c.in.InitPid, r.On)
		if err != nil {
			return nil, err
		}
		r.Expiry = at + n
	}
	return r, nil
}

func rebindTimerfds(b *binder, entries []*entry) error {
	for _, e := range entries {
		if err := rebindTimerfd(b, e); err != nil {
			return fmt.Errorf("making a timerfd: %w", err)
		}
	}
	return nil
}

func rebindTimerfd(b *binder, e *entry) error {
	r := e.rec.(*timerfdRecord)
	fd, err := b.call(unix.SYS_TIMERFD_CREATE, uint64(r.Clock), uint64(int(e.Flags)&unix.O_NONBLOCK))
	if err != nil {
		return err
	}
	b.put(e.ID, fd)
	if r.Expiry != 0 {
		flags, value := unix.TFD_TIMER_ABSTIME|r.Flags&unix.TFD_TIMER_CANCEL_ON_SET, r.Expiry
		if r.On != r.Clock {
			at, err := kernel.ClockOf(b.env.Pid, r.On)
			if err != nil {
				return err
			}
			flags, value = 0, max(1, r.Expiry-at)
		}
		for i, n := range []int64{r.Interval / 1e9, r.Interval % 1e9, value / 1e9, value % 1e9} {
			binary.NativeEndian.PutUint64(b.data[i*8:], uint64(n))
		}
		if _, err := b.call(unix.SYS_TIMERFD_SETTIME, uint64(fd), uint64(flags), b.addr, 0); err != nil {
			return fmt.Errorf("setting it: %w", err)
		}
	}
	if r.Ticks == 0 {
		return nil
	}
	return b.with(fd, func(dup int) error {
		err := ioctl(dup, tfdSetTicks, binary.NativeEndian.AppendUint64(nil, r.Ticks))
		if err == unix.ENOTTY && r.Expiry == 0 {
			// A kernel without CONFIG_CHECKPOINT_RESTORE: let it expire once.
			return unix.TimerfdSettime(dup, 0, &unix.ItimerSpec{Value: unix.Timespec{Nsec: 1}}, nil)
		}
		if err != nil {
			return fmt.Errorf("setting its ticks: %w", err)
		}
		return nil
	})
}
