package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A conversation on one of the lab's sockets is a row of messages: a length of four bytes, then
// JSON. Descriptors ride with the first byte of a message. A request gets one reply; only `exec`
// goes on: the client sends signals, the warden at the end the exit status.

const maxMessage = 8 << 20

// request asks a warden or the switch room to do something.
type request struct {
	Op    string            `json:"op"`
	Args  []string          `json:"args,omitempty"`
	Env   []string          `json:"env,omitempty"`
	Dir   string            `json:"dir,omitempty"`
	TTY   bool              `json:"tty,omitempty"`
	Rows  uint16            `json:"rows,omitempty"`
	Cols  uint16            `json:"cols,omitempty"`
	Host  string            `json:"host,omitempty"`
	Hard  bool              `json:"hard,omitempty"`
	Shape *shape            `json:"shape,omitempty"`
	Files map[string][]byte `json:"files,omitempty"`
}

// reply answers a request.
type reply struct {
	Error  string          `json:"error,omitempty"`
	Code   int             `json:"code,omitempty"` // exit status that goes with Error
	Result json.RawMessage `json:"result,omitempty"`
}

// event is what follows in an exec conversation, either way.
type event struct {
	Signal int  `json:"signal,omitempty"`
	Exited bool `json:"exited,omitempty"`
	Status int  `json:"status,omitempty"`
}

// send writes one message, with descriptors if there are any.
func send(c *net.UnixConn, message any, fds ...int) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	if len(body) > maxMessage {
		return fmt.Errorf("a message of %d bytes is over the limit of %d", len(body), maxMessage)
	}
	buf := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	buf = append(buf, body...)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	n, _, err := c.WriteMsgUnix(buf, rights, nil)
	if err != nil {
		return fmt.Errorf("sending a message: %w", err)
	}
	if _, err := c.Write(buf[n:]); n < len(buf) && err != nil {
		return fmt.Errorf("sending a message: %w", err)
	}
	return nil
}

// receive reads one message and the descriptors that came with it.
func receive(c *net.UnixConn, message any) ([]*os.File, error) {
	head := make([]byte, 4)
	oob := make([]byte, unix.CmsgSpace(8*4))
	n, oobn, _, _, err := c.ReadMsgUnix(head, oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	files, err := parseRights(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c, head[n:]); err != nil {
		closeAll(files)
		return nil, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		closeAll(files)
		return nil, fmt.Errorf("a message of %d bytes is over the limit of %d", size, maxMessage)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		closeAll(files)
		return nil, err
	}
	if err := json.Unmarshal(body, message); err != nil {
		closeAll(files)
		return nil, fmt.Errorf("decoding a message: %w", err)
	}
	return files, nil
}

func parseRights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("reading passed descriptors: %w", err)
	}
	var files []*os.File
	for i := range controls {
		fds, err := unix.ParseUnixRights(&controls[i])
		if err != nil {
			continue // not descriptors
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// ask holds a conversation of one request and one reply, and decodes the result if wanted.
func ask(socket string, req request, result any) error {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := send(c, req); err != nil {
		return err
	}
	var rep reply
	files, err := receive(c, &rep)
	closeAll(files)
	if err != nil {
		return fmt.Errorf("waiting for the answer: %w", err)
	}
	return rep.decode(result)
}

func (r reply) decode(result any) error {
	if r.Error != "" {
		return fmt.Errorf("%s", r.Error)
	}
	if result == nil || len(r.Result) == 0 {
		return nil
	}
	return json.Unmarshal(r.Result, result)
}

// replyWith makes a reply of a result or an error.
func replyWith(result any, err error) reply {
	if err != nil {
		return reply{Error: err.Error()}
	}
	if result == nil {
		return reply{}
	}
	body, err := json.Marshal(result)
	if err != nil {
		return reply{Error: err.Error()}
	}
	return reply{Result: body}
}

// unixConn makes a connection of an inherited socket.
func unixConn(fd uintptr, name string) (*net.UnixConn, error) {
	f := os.NewFile(fd, name)
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("taking over the %s socket: %w", name, err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("taking over the %s socket: not a unix socket", name)
	}
	return u, nil
}

// socketPair gives a connection to keep and a file to hand to a child.
func socketPair(name string) (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket pair for %s: %w", name, err)
	}
	c, err := unixConn(uintptr(fds[0]), name)
	if err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	return c, os.NewFile(uintptr(fds[1]), name), nil
}
