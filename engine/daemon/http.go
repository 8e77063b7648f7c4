package daemon

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/transport"
)

const maxRequest = 1 << 20

// routes is the API that package control's comment lists.
func (d *Daemon) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern, doing string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			out, err := f(r)
			if err != nil {
				fail(w, doing, err)
				return
			}
			if out == nil {
				out = struct{}{}
			}
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(out); err != nil {
				log.Printf("answering %s: %v", pattern, err)
			}
		})
	}
	handle("GET /v1/status", "asking for the daemon's state", d.status)
	handle("GET /v1/apps", "listing apps", func(r *http.Request) (any, error) {
		return d.lookFor(r.Context(), r.URL.Query().Get("look") != "")
	})
	handle("GET /v1/apps/{app}", "looking at the app", func(r *http.Request) (any, error) {
		f, err := d.find(r.PathValue("app"))
		if err == nil {
			err = f.processes()
		}
		if err != nil {
			return nil, err
		}
		return f.app, nil
	})
	handle("GET /v1/apps/{app}/files", "looking for the app's files", func(r *http.Request) (any, error) {
		return d.files(r.Context(), r.PathValue("app"), nil)
	})
	handle("POST /v1/apps/{app}/files", "taking the app's files", func(r *http.Request) (any, error) {
		var in control.FilesRequest
		if err := read(r, &in); err != nil {
			return nil, err
		}
		return d.files(r.Context(), r.PathValue("app"), &in)
	})
	handle("POST /v1/apps/{app}/stop", "stopping the app", func(r *http.Request) (any, error) {
		var in control.StopRequest
		if err := read(r, &in); err != nil {
			return nil, err
		}
		f, err := d.running(r.PathValue("app"))
		if err != nil {
			return nil, err
		}
		if f.app.State != "running" {
			return nil, fmt.Errorf("%s is %s: %s", f.app.Name, f.app.State, cured(f.app))
		}
		return nil, f.capsule.Stop(r.Context(), time.Duration(in.Grace*float64(time.Second)))
	})
	handle("POST /v1/apps/{app}/show", "showing the app", func(r *http.Request) (any, error) {
		f, err := d.running(r.PathValue("app"))
		if err != nil {
			return nil, err
		}
		return nil, d.raise(r.Context(), f)
	})
	handle("POST /v1/apps/{app}/check", "checking", d.check)
	mux.HandleFunc("POST /v1/apps/{app}/send", d.serveSend)
	mux.HandleFunc("POST /v1/bring", d.serveBring)
	handle("POST /v1/tasks/{task}/cancel", "cancelling", func(r *http.Request) (any, error) {
		d.mu.Lock()
		cancel := d.tasks[r.PathValue("task")]
		d.mu.Unlock()
		if cancel == nil {
			return nil, usage("", "no such task; it may just have ended")
		}
		cancel(handover.ErrCancelled)
		return nil, nil
	})
	handle("GET /v1/moves", "listing moves", func(*http.Request) (any, error) {
		return control.Moves{Moves: append([]handover.Pending{}, d.moves.Pending()...)}, nil
	})
	handle("POST /v1/moves/{move}/claim", "claiming the copy here", func(r *http.Request) (any, error) {
		return nil, d.moves.Claim(r.PathValue("move"))
	})
	handle("POST /v1/moves/{move}/drop", "dropping the copy here", func(r *http.Request) (any, error) {
		return nil, d.moves.Drop(r.PathValue("move"))
	})
	handle("GET /v1/peers", "listing peers", func(r *http.Request) (any, error) {
		list, err := d.peers(r.Context(), r.URL.Query().Get("ping") != "")
		if err == nil && r.URL.Query().Get("all") != "" {
			list = append(list, d.strangers(r.Context())...)
		}
		return control.Peers{Peers: list}, err
	})
	handle("POST /v1/peers", "pairing", d.pair)
	handle("PATCH /v1/peers/{peer}", "changing what is known of the host", d.changePeer)
	handle("DELETE /v1/peers/{peer}", "unpairing", d.unpair)
	handle("GET /v1/pairings", "listing pairings", func(*http.Request) (any, error) {
		return control.Pairings{Pairings: d.pairings.list()}, nil
	})
	handle("POST /v1/pairings", "pairing", d.beginPairing)
	handle("POST /v1/pairings/{id}/answer", "answering", d.answerPairing)
	handle("DELETE /v1/pairings/{id}", "cancelling", d.cancelPairing)
	handle("POST /v1/tickets", "making a ticket", d.makeTicket)
	handle("GET /v1/questions", "listing questions", func(*http.Request) (any, error) {
		return control.Questions{Questions: d.questions.list()}, nil
	})
	handle("POST /v1/questions/{id}", "answering", d.answerQuestion)
	handle("GET /v1/peers/{peer}/apps", "listing the peer's apps", func(r *http.Request) (any, error) {
		p, err := d.peer(r.PathValue("peer"))
		if err != nil {
			return nil, err
		}
		return d.peerApps(r.Context(), p)
	})
	handle("GET /v1/card", "making this host's card", func(*http.Request) (any, error) {
		if d.endpoint == nil {
			return nil, d.why
		}
		return control.Card{Card: d.endpoint.Card().String()}, nil
	})
	handle("GET /v1/doctor", "looking at this host", func(r *http.Request) (any, error) { return d.doctor(r.Context()), nil })
	mux.HandleFunc("GET /v1/events", d.serveEvents)
	d.showRoutes(mux, handle)
	handle("PUT /v1/holds", "holding moves", func(r *http.Request) (any, error) {
		var in control.Holds
		if err := read(r, &in); err != nil {
			return nil, err
		}
		if unknown := d.holds.Set(in.States); unknown != nil {
			return nil, usage("", "no such state: %s", strings.Join(unknown, ", "))
		}
		return nil, nil
	})
	handle("POST /v1/holds/release", "letting moves go on", func(r *http.Request) (any, error) {
		var in control.Holds
		if err := read(r, &in); err != nil {
			return nil, err
		}
		in.Released = d.holds.Release(handover.State(in.States))
		return in, nil
	})
	return mux
}

func read(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return usage("", "the request is not what was expected: %v", err)
	}
	return nil
}

func fail(w http.ResponseWriter, doing string, err error) {
	out := control.Error{Doing: doing, Text: err.Error()}
	var e *control.Error
	status := http.StatusInternalServerError
	if errors.As(err, &e) {
		out.Text, out.Hint, out.Code = e.Text, e.Hint, e.Code
		status = http.StatusNotFound
		if e.Code != control.CodeUsage {
			status = http.StatusConflict
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(out) //nolint:errcheck // who asked is gone
}

func (d *Daemon) status(*http.Request) (any, error) {
	s := control.Status{Version: d.opts.Version, Commit: d.opts.Commit, Pid: os.Getpid(), ID: string(d.identity.ID()), Name: d.self(),
		Since: d.since, Addresses: []string{}}
	if d.why != nil {
		s.Problem = d.why.Error()
	}
	if d.endpoint != nil {
		s.Port, s.Addresses = d.endpoint.Port(), d.endpoint.Addresses()
	}
	return s, nil
}

// peer is the peer that a person means.
func (d *Daemon) peer(what string) (transport.Peer, error) {
	p, err := d.trust.Find(what)
	if err != nil {
		return p, &control.Error{Text: err.Error(), Code: control.CodeUsage}
	}
	return p, nil
}

func (d *Daemon) pair(r *http.Request) (any, error) {
	var in control.PeerRequest
	if err := read(r, &in); err != nil {
		return nil, err
	}
	card, err := transport.ParseCard(in.Card)
	if err != nil {
		return nil, usage("`hither pair --export` on the other host prints its card", "%v", err)
	}
	p := card.Peer()
	if in.Name != "" {
		p.Name = in.Name
	}
	if p.ID == d.identity.ID() {
		return nil, usage("", "the card is this host's own")
	}
	if have, err := d.trust.Get(p.ID); err == nil {
		p.Permissions = have.Permissions
	} else {
		for what, said := range d.newPermissions() {
			permit(&p, what, said)
		}
	}
	if err := d.trust.Put(p); err != nil {
		return nil, err
	}
	return d.shown(p), nil
}

func (d *Daemon) check(r *http.Request) (any, error) {
	var in control.MoveRequest
	if err := read(r, &in); err != nil {
		return nil, err
	}
	f, peer, err := d.both(r.PathValue("app"), in.Peer)
	if err != nil {
		return nil, err
	}
	return checked(d.send(r.Context(), f.capsule, peer, true, nil), peer.Name), nil
}

// checked makes a check's answer of a move that stopped at the answer.
func checked(res *handover.Result, peer string) control.Check {
	out := control.Check{App: res.App, Peer: peer, Problems: res.Problems, Notes: res.Notes}
	if res.Reason != "" && len(out.Problems) == 0 {
		out.Problems = []handover.Problem{{What: res.Reason}}
	}
	if out.OK = len(out.Problems) == 0; out.OK {
		out.Problems = []handover.Problem{}
	}
	return out
}

func (d *Daemon) both(app, to string) (*found, transport.Peer, error) {
	peer, err := d.peer(to)
	if err != nil {
		return nil, peer, err
	}
	f, err := d.running(app)
	if err != nil {
		return nil, peer, err
	}
	if f.app.State != "running" {
		return nil, peer, fmt.Errorf("%s is %s: %s", f.app.Name, f.app.State, cured(f.app))
	}
	return f, peer, nil
}

// cured says what a person can do about an app that is in the middle of a move.
func cured(a control.App) string {
	switch a.State {
	case "undecided", "waiting":
		return fmt.Sprintf("this is settled by itself as soon as %s is reached again; if that host is gone for good, `hither claim %s` runs the copy that is here", a.Host, a.Name)
	}
	return "wait until its move has ended"
}

func (d *Daemon) serveSend(w http.ResponseWriter, r *http.Request) {
	var in control.MoveRequest
	err := read(r, &in)
	var f *found
	var peer transport.Peer
	if err == nil {
		f, peer, err = d.both(r.PathValue("app"), in.Peer)
	}
	if err != nil {
		fail(w, "sending "+r.PathValue("app"), err)
		return
	}
	d.stream(w, r, f.app.Name, peer.Name, func(ctx context.Context, progress func(handover.Progress)) *handover.Result {
		return d.send(ctx, f.capsule, peer, false, progress)
	})
}

func (d *Daemon) serveBring(w http.ResponseWriter, r *http.Request) {
	var in control.MoveRequest
	err := read(r, &in)
	var peer transport.Peer
	if err == nil && in.App == "" {
		err = usage("", "no app is named")
	}
	if err == nil {
		peer, err = d.peer(in.Peer)
	}
	if err != nil {
		fail(w, "bringing "+in.App, err)
		return
	}
	d.stream(w, r, in.App, peer.Name, func(ctx context.Context, progress func(handover.Progress)) *handover.Result {
		return d.bring(ctx, peer, in.App, in.Check, progress)
	})
}

// stream runs a move and writes its lines. A client that hangs up cancels it.
func (d *Daemon) stream(w http.ResponseWriter, r *http.Request, app, peer string, move func(context.Context, func(handover.Progress)) *handover.Result) {
	task := rand.Text()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	d.mu.Lock()
	d.tasks[task] = cancel
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.tasks, task)
		d.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/jsonl")
	enc := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	say := func(l control.MoveLine) {
		if enc.Encode(l) == nil {
			flush.Flush() //nolint:errcheck // who asked is gone, which ends ctx
		}
	}
	say(control.MoveLine{Task: task})
	// Progress is written here alone, so that a client that does not read
	// cannot hold the move up.
	news := make(chan handover.Progress, 16)
	result := make(chan *handover.Result, 1)
	go func() {
		result <- move(ctx, func(p handover.Progress) {
			d.events.tell(control.Event{Event: "progress", App: app, Peer: peer, Task: task, Progress: &p})
			select {
			case news <- p:
			default:
			}
		})
	}()
	for {
		select {
		case p := <-news:
			say(control.MoveLine{Progress: &p})
			continue
		case res := <-result:
			for len(news) > 0 {
				p := <-news
				say(control.MoveLine{Progress: &p})
			}
			d.events.tell(control.Event{Event: "result", App: app, Peer: peer, Task: task, Result: res})
			d.events.tell(control.Event{Event: "apps"})
			say(control.MoveLine{Result: res})
			return
		}
	}
}

func (d *Daemon) serveEvents(w http.ResponseWriter, r *http.Request) {
	events, stop := d.events.listen()
	defer stop()
	w.Header().Set("Content-Type", "application/jsonl")
	enc := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	if err := flush.Flush(); err != nil {
		return
	}
	for {
		select {
		case ev := <-events:
			if enc.Encode(ev) != nil || flush.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
