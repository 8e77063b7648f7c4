package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hither/engine/handover"
)

// serve listens on a control socket at the path.
func serve(t *testing.T, socket string, handler http.Handler) *Client {
	t.Helper()
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler}
	go s.Serve(l) //nolint:errcheck // ends with Close
	t.Cleanup(func() { s.Close() })
	return New(socket)
}

// TestLongPath: a socket may lie deeper than a socket's address is long.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 40))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := serve(t, filepath.Join(dir, "control.sock"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"name":"a"}`)
	}))
	s, err := c.Status(t.Context())
	if err != nil || s.Name != "a" {
		t.Fatalf("%+v, %v", s, err)
	}
	info, err := os.Stat(filepath.Join(dir, "control.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
}

func TestListenAgain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control.sock")
	old, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	old.Close() // as a killed daemon leaves it: the file stays
	if _, err := Dial(t.Context(), socket); !notThere(err) {
		t.Errorf("dialling a dead socket: %v", err)
	}
	c := serve(t, socket, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{}`) }))
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	c := serve(t, filepath.Join(t.TempDir(), "s"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/apps/a b@c":
			w.WriteHeader(http.StatusNotFound)
			json.NewEncoder(w).Encode(Error{Doing: "looking", Text: "no app", Hint: "look", Code: CodeUsage}) //nolint:errcheck // a test
		default:
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	_, err := c.App(t.Context(), "a b@c")
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeUsage || e.Hint != "look" || e.Error() != "no app" {
		t.Errorf("%v", err)
	}
	if _, err := c.Apps(t.Context()); err == nil || !strings.Contains(err.Error(), "418") {
		t.Errorf("%v", err)
	}
}

// TestCancelIsAsked: a cancelled move is asked to end, and its result still heard.
func TestCancelIsAsked(t *testing.T) {
	asked := make(chan string, 1)
	c := serve(t, filepath.Join(t.TempDir(), "s"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		enc := json.NewEncoder(w)
		if task, ok := strings.CutPrefix(r.URL.Path, "/v1/tasks/"); ok {
			asked <- task
			fmt.Fprint(w, "{}")
			return
		}
		enc.Encode(MoveLine{Task: "t1"})                                                          //nolint:errcheck // a test
		enc.Encode(MoveLine{Progress: &handover.Progress{State: handover.SourceMemory, Done: 5}}) //nolint:errcheck // a test
		http.NewResponseController(w).Flush()                                                     //nolint:errcheck // a test
		if task := <-asked; task != "t1/cancel" {
			t.Errorf("asked for %s", task)
		}
		enc.Encode(MoveLine{Result: &handover.Result{Outcome: handover.Stayed, Reason: "cancelled"}}) //nolint:errcheck // a test
	}))
	ctx, cancel := context.WithCancel(t.Context())
	r, err := c.Send(ctx, "vim", "b", func(p handover.Progress) {
		if p.Done != 5 {
			t.Errorf("progress %+v", p)
		}
		cancel()
	})
	if err != nil || r.Outcome != handover.Stayed {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestLostDaemon: a stream that ends without a result is an error.
func TestLostDaemon(t *testing.T) {
	c := serve(t, filepath.Join(t.TempDir(), "s"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, `{"task":"t"}`)
	}))
	if r, err := c.Send(t.Context(), "vim", "b", nil); err == nil {
		t.Errorf("%+v", r)
	}
}

func FuzzLines(f *testing.F) {
	f.Add("{\"task\":\"x\"}\n{\"result\":{\"outcome\":\"moved\"}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines(strings.NewReader(text), func(MoveLine) error { return nil }) //nolint:errcheck // must not panic
	})
}
