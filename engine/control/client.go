package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"

	"hither/engine/handover"
	"hither/engine/paths"
)

// Client speaks to the daemon.
type Client struct {
	http   *http.Client
	socket string
}

// maxAnswer bounds an answer, and a line of a stream.
const maxAnswer = 64 << 20

// New makes a client of a socket; nothing is opened yet.
func New(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, socket) },
	}}}
}

// Dial connects to a socket at any path: the kernel takes 107 bytes at most, so
// a longer one is reached through its folder.
func Dial(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	if len(socket) < 108 {
		return d.DialContext(ctx, "unix", socket)
	}
	short, done, err := shorten(socket)
	if err != nil {
		return nil, err
	}
	defer done()
	return d.DialContext(ctx, "unix", short)
}

// Connect returns a client of this user's daemon, which is started if it does
// not run.
func Connect(ctx context.Context) (*Client, error) {
	socket, err := paths.ControlSocket()
	if err != nil {
		return nil, err
	}
	c := New(socket)
	conn, err := Dial(ctx, socket)
	if err == nil {
		conn.Close()
		return c, nil
	}
	if !notThere(err) {
		return nil, fmt.Errorf("speaking to the daemon at %s: %w", socket, err)
	}
	if err := start(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Running returns a client if the daemon runs, else nil.
func Running(ctx context.Context) (*Client, error) {
	socket, err := paths.ControlSocket()
	if err != nil {
		return nil, err
	}
	conn, err := Dial(ctx, socket)
	if notThere(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("speaking to the daemon at %s: %w", socket, err)
	}
	conn.Close()
	return New(socket), nil
}

func notThere(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// do sends a request and decodes the answer.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("reading the daemon's answer: %w", err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("asking the daemon: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://hither"+path, body)
	if err != nil {
		return nil, fmt.Errorf("asking the daemon: %w", err)
	}
	tellDesktop(req.Header)
	resp, err := c.http.Do(req)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, fmt.Errorf("asking the daemon: %w", err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	e := new(Error)
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(e); err != nil || e.Text == "" {
		return nil, fmt.Errorf("asking the daemon: it says %s", resp.Status)
	}
	return nil, e
}

func get[T any](ctx context.Context, c *Client, path string) (*T, error) {
	out := new(T)
	if err := c.do(ctx, http.MethodGet, path, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

func app(name, what string) string {
	p := "/v1/apps/" + url.PathEscape(name)
	if what != "" {
		p += "/" + what
	}
	return p
}

func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, "/v1/status")
}

func (c *Client) Apps(ctx context.Context) (*Apps, error) { return get[Apps](ctx, c, "/v1/apps") }

func (c *Client) App(ctx context.Context, name string) (*App, error) {
	return get[App](ctx, c, app(name, ""))
}

func (c *Client) Files(ctx context.Context, name string) (*Files, error) {
	return get[Files](ctx, c, app(name, "files"))
}

func (c *Client) ActOnFiles(ctx context.Context, name string, r FilesRequest) (*Files, error) {
	out := new(Files)
	return out, c.do(ctx, http.MethodPost, app(name, "files"), r, out)
}

func (c *Client) Stop(ctx context.Context, name string, r StopRequest) error {
	return c.do(ctx, http.MethodPost, app(name, "stop"), r, nil)
}

func (c *Client) Check(ctx context.Context, name, peer string) (*Check, error) {
	out := new(Check)
	return out, c.do(ctx, http.MethodPost, app(name, "check"), MoveRequest{Peer: peer}, out)
}

// Peers lists the paired hosts; with ping each is asked first.
func (c *Client) Peers(ctx context.Context, ping bool) (*Peers, error) {
	path := "/v1/peers"
	if ping {
		path += "?ping=1"
	}
	return get[Peers](ctx, c, path)
}

func (c *Client) PeerApps(ctx context.Context, peer string) (*Apps, error) {
	return get[Apps](ctx, c, "/v1/peers/"+url.PathEscape(peer)+"/apps")
}

func (c *Client) Pair(ctx context.Context, r PeerRequest) (*Peer, error) {
	out := new(Peer)
	return out, c.do(ctx, http.MethodPost, "/v1/peers", r, out)
}

func (c *Client) Unpair(ctx context.Context, peer string) error {
	return c.do(ctx, http.MethodDelete, "/v1/peers/"+url.PathEscape(peer), nil, nil)
}

func (c *Client) Card(ctx context.Context) (*Card, error) { return get[Card](ctx, c, "/v1/card") }

func (c *Client) Moves(ctx context.Context) (*Moves, error) { return get[Moves](ctx, c, "/v1/moves") }

func (c *Client) Claim(ctx context.Context, move string) error {
	return c.do(ctx, http.MethodPost, "/v1/moves/"+url.PathEscape(move)+"/claim", nil, nil)
}

func (c *Client) Drop(ctx context.Context, move string) error {
	return c.do(ctx, http.MethodPost, "/v1/moves/"+url.PathEscape(move)+"/drop", nil, nil)
}

func (c *Client) Doctor(ctx context.Context) (*Doctor, error) {
	return get[Doctor](ctx, c, "/v1/doctor")
}

func (c *Client) CancelTask(ctx context.Context, task string) error {
	return c.do(ctx, http.MethodPost, "/v1/tasks/"+url.PathEscape(task)+"/cancel", nil, nil)
}

// SetHolds holds moves still in states of the hand-over; ReleaseHolds lets
// them go on ("" for all).
func (c *Client) SetHolds(ctx context.Context, states string) error {
	return c.do(ctx, http.MethodPut, "/v1/holds", Holds{States: states}, nil)
}

func (c *Client) ReleaseHolds(ctx context.Context, state string) (*Holds, error) {
	out := new(Holds)
	return out, c.do(ctx, http.MethodPost, "/v1/holds/release", Holds{States: state}, out)
}

// Send moves an app to a peer. A cancelled context asks the daemon to cancel,
// and still waits for the result, because only the daemon knows whether it was
// in time.
func (c *Client) Send(ctx context.Context, name, peer string, progress func(handover.Progress)) (*handover.Result, error) {
	return c.move(ctx, app(name, "send"), MoveRequest{Peer: peer}, progress)
}

// Bring moves an app of a peer here; see Send.
func (c *Client) Bring(ctx context.Context, r MoveRequest, progress func(handover.Progress)) (*handover.Result, error) {
	return c.move(ctx, "/v1/bring", r, progress)
}

func (c *Client) move(ctx context.Context, path string, r MoveRequest, progress func(handover.Progress)) (*handover.Result, error) {
	resp, err := c.request(context.WithoutCancel(ctx), http.MethodPost, path, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var result *handover.Result
	err = lines(resp.Body, func(l MoveLine) error {
		switch {
		case l.Task != "":
			stop := context.AfterFunc(ctx, func() {
				_ = c.CancelTask(context.WithoutCancel(ctx), l.Task) // an error: it has just ended
			})
			_ = stop // it may run until the result is here
		case l.Result != nil:
			result = l.Result
		case l.Progress != nil && progress != nil:
			progress(*l.Progress)
		}
		return nil
	})
	if err == nil && result == nil {
		err = io.ErrUnexpectedEOF
	}
	if result == nil {
		return nil, fmt.Errorf("the daemon was lost in the middle of the move: %w", err)
	}
	return result, nil
}

// Listen listens to events: what happens after it has returned is not missed, so what was before can be asked
// for then. Hear, to be called once, calls f with each event until ctx ends, the daemon does, or f returns an error, which it returns.
func (c *Client) Listen(ctx context.Context) (hear func(f func(Event) error) error, err error) {
	resp, err := c.request(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return nil, err
	}
	return func(f func(Event) error) error {
		defer resp.Body.Close()
		return lines(resp.Body, f)
	}, nil
}

// lines decodes a stream of JSON lines.
func lines[T any](r io.Reader, f func(T) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxAnswer)
	for s.Scan() {
		var v T
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			return fmt.Errorf("reading the daemon's answer: %w", err)
		}
		if err := f(v); err != nil {
			return err
		}
	}
	return s.Err()
}
