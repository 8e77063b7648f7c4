package capsule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"hither/engine/display"
	"hither/engine/terminal"
)

// The keeper's socket: one conversation a connection. A request is a line of
// JSON, the answer another. After the answer
//
//	attach   and exec with a terminal carry frames of package terminal
//	exec     without one carries a second answer when the command has ended
//	wait     likewise when the app has, and before that answers with a notice for a person
//
// Descriptors travel beside the request's bytes.
type request struct {
	Op     string         `json:"op"`
	Hello  terminal.Hello `json:"hello,omitzero"`    // attach, exec
	Exec   *ExecSpec      `json:"exec,omitempty"`    // exec
	Std    [3]int         `json:"std,omitzero"`      // exec: as in order
	Grace  int64          `json:"grace,omitempty"`   // stop: ns
	Host   string         `json:"host,omitempty"`    // moved
	Arrive *Arrival       `json:"arrival,omitempty"` // arrived
	Env    []string       `json:"env,omitempty"`     // desktop
	Text   string         `json:"text,omitempty"`    // progress
	Share  float64        `json:"share,omitempty"`   // progress
	Typed  Typed          `json:"typed,omitempty"`   // type
}

type response struct {
	Error  string `json:"error,omitempty"`
	Code   int    `json:"code,omitempty"` // exec: what a shell would exit with
	State  *State `json:"state,omitempty"`
	Status *int   `json:"status,omitempty"`
	Moved  string `json:"moved,omitempty"`
	Notice string `json:"notice,omitempty"`
	Screen []byte `json:"screen,omitempty"`
	Held   []byte `json:"held,omitempty"`
	Typed  Typed  `json:"typed,omitempty"`
}

// Typed is what was typed at an app's windows while it was on its way.
type Typed []display.Stroke

// Arrival is what the keeper of an arriving capsule is told once its processes
// are restored.
type Arrival struct {
	Main   int    `json:"main"`             // pid inside of the app's first process
	Status *int   `json:"status,omitempty"` // its exit status, if it ended before the move
	TTY    bool   `json:"tty,omitempty"`    // pid 1 holds a terminal's master at FDTerminal
	Screen []byte `json:"screen,omitempty"`
	Held   []byte `json:"held,omitempty"`
}

// maxLine bounds a request: it may hold an environment.
const maxLine = 8 << 20

// err is the error that a response carries.
func (r *response) err() error {
	switch {
	case r.Error == "":
		return nil
	case r.Code != 0:
		return &ExecError{r.Code, r.Error}
	case r.Error == ErrEnded.Error():
		return ErrEnded
	case r.Error == ErrKept.Error():
		return ErrKept
	}
	return errors.New(r.Error)
}

func reply(c io.Writer, r any) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = c.Write(append(b, '\n'))
	return err
}

func answerError(c io.Writer, err error) {
	r := response{Error: err.Error()}
	var e *ExecError
	if errors.As(err, &e) {
		r.Code, r.Error = e.Code, e.Text
	}
	for _, known := range []error{ErrEnded, ErrKept} {
		if errors.Is(err, known) {
			r.Error = known.Error()
		}
	}
	reply(c, r) //nolint:errcheck // whoever asked has gone
}

// readLine reads up to a newline and not a byte more: what follows is another's.
func readLine(c *net.UnixConn) ([]byte, error) {
	line, fds, err := readLineFDs(c)
	closeAll(fds)
	return line, err
}

// readLineFDs also takes the descriptors that come along. It peeks, so as to
// take exactly one line.
func readLineFDs(c *net.UnixConn) (line []byte, files []*os.File, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	buf := make([]byte, 64<<10)
	oob := make([]byte, unix.CmsgSpace(8*4))
	for {
		var n, oobn int
		var callErr error
		err := raw.Read(func(fd uintptr) bool {
			n, _, _, _, callErr = unix.Recvmsg(int(fd), buf, nil, unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if callErr == unix.EAGAIN || callErr == unix.EINTR {
				return false
			}
			if callErr != nil || n == 0 {
				return true
			}
			if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
				n = i + 1
			}
			n, oobn, _, _, callErr = unix.Recvmsg(int(fd), buf[:n], oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			return true
		})
		if err = errors.Join(err, callErr); err != nil {
			return nil, files, err
		}
		if n == 0 {
			return nil, files, io.ErrUnexpectedEOF
		}
		if oobn > 0 {
			files = append(files, takeFiles(oob[:oobn])...)
		}
		line = append(line, buf[:n]...)
		if line[len(line)-1] == '\n' {
			return line, files, nil
		}
		if len(line) > maxLine {
			return nil, files, fmt.Errorf("a line of more than %d bytes", maxLine)
		}
	}
}

func takeFiles(oob []byte) []*os.File {
	var files []*os.File
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
