package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"hither/engine/control"
	"hither/transport"
)

// questions are what peers want and a person has to say, on the window, in a
// notification of the desktop or by the command: who is first.
type questions struct {
	mu       sync.Mutex
	open     []*question
	watchers map[string]watcher // peers whose person was asked about watch

	asked limiter
	life  time.Duration // of a question
}

// watcher is what was said of a peer, and until when it counts.
type watcher struct {
	may   bool
	until time.Time
}

type question struct {
	control.Question
	answer chan string // the first one counts
}

const (
	questionLife = 60 * time.Second
	// maxQuestions are open at a time, one of each kind of a peer.
	maxQuestions = 8
	// watchFor is how long "once" lets a peer see what runs, and anything else not.
	watchFor = 10 * time.Minute
	// waitingEvery is how often the other side hears that a person is asked.
	waitingEvery = 5 * time.Second
)

func newQuestions() *questions {
	return &questions{watchers: map[string]watcher{}, asked: limiter{burst: 5, every: 20 * time.Second}, life: questionLife}
}

// ask asks a person, and keeps the answer if it is for good. No answer is a no.
func (d *Daemon) ask(ctx context.Context, peer transport.Peer, what, app, text string, waiting func(string)) error {
	q, err := d.questions.begin(peer, what, app, text)
	if err != nil {
		return d.refusal(peer, what, err.Error(), "")
	}
	d.events.tell(control.Event{Event: "question", Peer: peer.Name, Question: &q.Question})
	log.Printf("asking whether %s may %s this host: %s", peer.Name, verbs[what], text)
	ctx, stop := context.WithDeadline(ctx, q.Expires)
	defer func() {
		stop()
		d.questions.end(q)
		d.events.tell(control.Event{Event: "question", Peer: peer.Name})
	}()
	d.work.Go(func() {
		d.notice(ctx, notice{Title: "hither: may " + peer.Name + " do this?", Body: text, Actions: []string{
			control.AnswerOnce, "Once", control.AnswerAlways, "Always", control.AnswerNo, "Not now", control.AnswerNever, "Never"},
			Chosen: q.say, Command: "hither answer"})
	})
	tick := time.NewTicker(waitingEvery)
	defer tick.Stop()
	note := fmt.Sprintf("waiting for a person on %s to agree", d.self())
	for waiting(note); ; {
		select {
		case said := <-q.answer:
			log.Printf("whether %s may %s this host: %s", peer.Name, verbs[what], said)
			return d.answered(peer, what, said)
		case <-tick.C:
			waiting(note)
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return d.refusal(peer, what, "nobody on %[3]s has said whether %[1]s may %[2]s it",
					fmt.Sprintf("ask for it again, and answer on %s: in the window, the notification, or by `hither answer`; `hither permit %s %s allow` there lets it for good", d.self(), peer.Name, what))
			}
			return context.Cause(ctx)
		}
	}
}

// answered acts on what a person said.
func (d *Daemon) answered(peer transport.Peer, what, said string) error {
	if said == control.AnswerAlways || said == control.AnswerNever {
		forGood := control.Allow
		if said == control.AnswerNever {
			forGood = control.Deny
		}
		if err := d.trust.Update(peer.ID, func(p *transport.Peer) { permit(p, what, forGood) }); err != nil {
			return err
		}
		d.events.tell(control.Event{Event: "peers", Peer: peer.Name})
	}
	switch said {
	case control.AnswerOnce, control.AnswerAlways:
		return nil
	case control.AnswerNever:
		return d.refusal(peer, what, "%[1]s may not %[2]s %[3]s", "")
	}
	return d.refusal(peer, what, "the person on %[3]s said no: %[1]s may not %[2]s it now", "")
}

func (s *questions) begin(peer transport.Peer, what, app, text string) (*question, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.open {
		if o.PeerID == string(peer.ID) && o.Permit == what {
			return nil, errors.New("whether %[1]s may %[2]s %[3]s is being asked there already")
		}
	}
	if len(s.open) >= maxQuestions || !s.asked.allow(string(peer.ID)+what) {
		return nil, errors.New("%[3]s was asked too often lately whether %[1]s may %[2]s it: try again in a minute")
	}
	q := &question{Question: control.Question{ID: strings.ToLower(rand.Text()[:8]), Peer: peer.Name, PeerID: string(peer.ID),
		Permit: what, App: app, Text: text, Expires: time.Now().Add(s.life)}, answer: make(chan string, 1)}
	s.open = append(s.open, q)
	return q, nil
}

func (s *questions) end(q *question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = slices.DeleteFunc(s.open, func(o *question) bool { return o == q })
}

// say answers, unless somebody was faster.
func (q *question) say(answer string) {
	select {
	case q.answer <- answer:
	default:
	}
}

func (s *questions) list() []control.Question {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []control.Question{}
	for _, q := range s.open {
		all = append(all, q.Question)
	}
	return all
}

// overtaken answers what is open by what was permitted or denied for good.
func (s *questions) overtaken(peer, what, said string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if what == control.PermitWatch {
		delete(s.watchers, peer)
	}
	for _, q := range s.open {
		if q.PeerID != peer || q.Permit != what {
			continue
		}
		switch said {
		case control.Allow:
			q.say(control.AnswerOnce)
		case control.Deny:
			q.say(control.AnswerNo)
		}
	}
}

// watching is what was said lately of a peer that wants to watch.
func (s *questions) watching(peer string) (may, said bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watchers[peer]
	said = time.Now().Before(w.until)
	return w.may && said, said
}

func (s *questions) watch(peer string, may bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers[peer] = watcher{may, time.Now().Add(watchFor)}
}

// forget is for a peer that is one no more.
func (s *questions) forget(peer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, peer)
	for _, q := range s.open {
		if q.PeerID == peer {
			q.say(control.AnswerNo)
		}
	}
}

// answerQuestion is POST /v1/questions/ID.
func (d *Daemon) answerQuestion(r *http.Request) (any, error) {
	var in control.QuestionAnswer
	if err := read(r, &in); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{control.AnswerOnce, control.AnswerAlways, control.AnswerNo, control.AnswerNever}, in.Answer) {
		return nil, usage("say once, always, no or never", "%q is no answer", in.Answer)
	}
	d.questions.mu.Lock()
	defer d.questions.mu.Unlock()
	i := slices.IndexFunc(d.questions.open, func(q *question) bool { return q.ID == r.PathValue("id") })
	if i < 0 {
		return nil, usage("`hither answer` lists what is asked now", "there is no question %s; it may just have been answered, or nobody waits for it any more", r.PathValue("id"))
	}
	d.questions.open[i].say(in.Answer)
	return nil, nil
}
