package handle

import (
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"hither/engine/tracee"
)

// Call is one system call to be made elsewhere.
type Call = tracee.Call

// On makes the calls on a stopped thread, whose process has its train.
func On(th *tracee.Thread) Remote { return onThread{th} }

type onThread struct{ *tracee.Thread }

func (t onThread) Scratch() ([]byte, uint64) { return t.Process().Scratch() }

// Remote makes system calls in another process: see On.
type Remote interface {
	// Batch makes the calls in order and sets each Ret; its error means that
	// the calls may not have been made at all.
	Batch(calls []Call) error
	// Scratch is memory of the other process as this one sees it, and its
	// address there. Its content is the caller's until his next call of Batch returns.
	Scratch() ([]byte, uint64)
}

// caller makes single calls through a Remote.
type caller struct {
	remote Remote
	data   []byte
	addr   uint64
}

func newCaller(r Remote) caller {
	data, addr := r.Scratch()
	return caller{r, data, addr}
}

func newCall(nr uintptr, args ...uint64) Call {
	c := Call{Nr: nr}
	copy(c.Args[:], args)
	return c
}

// call makes one system call.
func (c *caller) call(nr uintptr, args ...uint64) (int, error) {
	calls := []Call{newCall(nr, args...)}
	if err := c.remote.Batch(calls); err != nil {
		return 0, err
	}
	if err := callError(&calls[0]); err != nil {
		return 0, err
	}
	return int(calls[0].Ret), nil
}

func callError(c *Call) error {
	if c.Ret < 0 && c.Ret > -4096 {
		return unix.Errno(-c.Ret)
	}
	return nil
}

// text puts a string into the scratch memory.
func (c *caller) text(s string) (uint64, error) {
	if len(s)+1 > len(c.data) {
		return 0, fmt.Errorf("a string of %d bytes is too long to hand over", len(s))
	}
	copy(c.data, s)
	c.data[len(s)] = 0
	return c.addr, nil
}

const atFDCWD = ^uint64(99) // AT_FDCWD, -100

// open is openat(2) of an absolute path.
func (c *caller) open(path string, flags int, mode uint32) (int, error) {
	at, err := c.text(path)
	if err != nil {
		return -1, err
	}
	fd, err := c.call(unix.SYS_OPENAT, atFDCWD, at, uint64(flags|oLargefile), uint64(mode))
	if err != nil {
		return -1, fmt.Errorf("opening %s in the capsule: %w", path, err)
	}
	return fd, nil
}

// batch collects calls and makes them together, as many as go into one go.
type batch struct {
	remote Remote
	calls  []Call
	what   []string // "" for calls that may fail
}

func (b *batch) add(what string, nr uintptr, args ...uint64) {
	b.calls = append(b.calls, newCall(nr, args...))
	b.what = append(b.what, what)
}

// mayFail says that it does not matter if the last call fails.
func (b *batch) mayFail() { b.what[len(b.what)-1] = "" }

func (b *batch) run() error {
	if len(b.calls) == 0 {
		return nil
	}
	calls, what := b.calls, b.what
	b.calls, b.what = nil, nil
	if err := b.remote.Batch(calls); err != nil {
		return err
	}
	for i := range calls {
		if err := callError(&calls[i]); err != nil && what[i] != "" {
			return fmt.Errorf("%s: %w", what[i], err)
		}
	}
	return nil
}

var le = binary.LittleEndian

// orShort is the error of a transfer that moved less than it should.
func orShort(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}
