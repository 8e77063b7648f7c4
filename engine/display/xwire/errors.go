package xwire

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is the end of a connection that was closed on this side.
	ErrClosed = errors.New("the connection to the X server was closed")
	// ErrTimeout is what waiting ends with when the server has not answered in
	// time, for instance because it is stopped. A reply that comes later is
	// thrown away; the connection can still be used.
	ErrTimeout = errors.New("the X server did not answer in time")
	// ErrNoExtension says that the server lacks an extension.
	ErrNoExtension = errors.New("the X server has no extension")
)

// ErrorName is a kind of error of the protocol, such as ErrWindow, to be
// compared by errors.Is.
type ErrorName string

func (n ErrorName) Error() string { return "X error " + string(n) }

// Error is what the server answers to a request that failed. It is an Event
// too: that is how errors come of requests that nobody waits for.
type Error struct {
	EventHeader
	Name  ErrorName // empty if no extension in use has such an error
	Code  uint8
	Major uint8  // the request's number
	Minor uint16 // the request's number within its extension
	// Value is the resource, atom or number that the error is about, if it is
	// about one.
	Value uint32
	// Request is the failed request's name.
	Request string
	// Local is set if the request could not even be sent.
	Local error
}

func (e *Error) Error() string {
	if e.Local != nil {
		return fmt.Sprintf("sending a request to the X server: %v", e.Local)
	}
	name := string(e.Name)
	if name == "" {
		name = fmt.Sprintf("number %d", e.Code)
	}
	return fmt.Sprintf("X error %s of request %s (%d.%d), value %#x", name, e.Request, e.Major, e.Minor, e.Value)
}

// Is compares with an ErrorName.
func (e *Error) Is(target error) bool {
	name, ok := target.(ErrorName)
	return ok && name != "" && name == e.Name
}

func (e *Error) Unwrap() error { return e.Local }

// parseError reads the 32 bytes of an error.
func (t *tables) parseError(b []byte, seq uint64) *Error {
	d := decoder{b: b, off: 4}
	e := &Error{EventHeader: EventHeader{Sequence: seq}, Code: b[1]}
	e.Value = d.u32()
	e.Minor = d.u16()
	e.Major = d.u8()
	e.Name = t.errors[e.Code]
	if ext := t.byMajor[e.Major]; ext != nil {
		e.Request = ext.name + " " + ext.requests[e.Minor]
	} else if e.Major < 128 {
		e.Request = core.requests[uint16(e.Major)]
	}
	return e
}
