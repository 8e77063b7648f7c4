package daemon

import (
	"bufio"
	"context"
	"errors"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/transport"
)

// consenting is a daemon as far as questions need it, and one of its peers.
func consenting(t *testing.T) (*Daemon, transport.Peer) {
	t.Helper()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir()) // no session manager is asked
	trust, err := transport.OpenTrust(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	id, err := transport.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	peer := transport.Card{Name: "laptop", Key: id.Public()}.Peer()
	if err := trust.Put(peer); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{trust: trust, pairings: newPairings(), questions: newQuestions()}
	d.ctx, d.cancel = context.WithCancel(t.Context())
	t.Cleanup(func() { d.cancel(); d.work.Wait() })
	return d, peer
}

func TestQuestionOfNobody(t *testing.T) {
	d, peer := consenting(t)
	d.questions.life = 50 * time.Millisecond
	err := d.ask(t.Context(), peer, control.PermitSend, "vim", "laptop wants to send you vim.", func(string) {})
	var r *handover.Refusal
	if !errors.As(err, &r) || !strings.Contains(err.Error(), "nobody on") || !strings.Contains(r.Problems[0].Cure, "hither answer") {
		t.Fatalf("%v", err)
	}
	if list := d.questions.list(); len(list) > 0 {
		t.Fatalf("still asked: %v", list)
	}
	if p, err := d.trust.Get(peer.ID); err != nil || len(p.Permissions) > 0 {
		t.Fatalf("kept: %v %v", p.Permissions, err)
	}
}

// A peer can have a person asked one thing at a time, and not for ever.
func TestQuestionsAreBounded(t *testing.T) {
	d, peer := consenting(t)
	begin := func() (*question, error) { return d.questions.begin(peer, control.PermitSend, "vim", "may it?") }
	q, err := begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := begin(); err == nil || !strings.Contains(err.Error(), "already") {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		d.questions.end(q)
		if q, err = begin(); err != nil {
			if n < 3 || !strings.Contains(err.Error(), "too often") {
				t.Fatal(n, err)
			}
			break
		}
		if n > 20 {
			t.Fatal("there is no limit")
		}
	}
}

func TestLimiter(t *testing.T) {
	l := limiter{burst: 3, every: time.Minute}
	now := time.Now()
	for i := range 5 {
		if got := l.allowAt("x", now); got != (i < 3) {
			t.Fatalf("the %d. at once: %v", i+1, got)
		}
	}
	if !l.allowAt("y", now) {
		t.Fatal("another one has to wait, too")
	}
	if now = now.Add(61 * time.Second); !l.allowAt("x", now) || l.allowAt("x", now) {
		t.Fatal("one each minute")
	}
	for i := range 2 * maxLimited {
		l.allowAt(string(rune(0x1000+i)), now)
	}
	if len(l.full) > maxLimited {
		t.Fatalf("%d keys are remembered", len(l.full))
	}
	if l.allowAt("new", now) || !l.allowAt("new", now.Add(time.Hour)) {
		t.Fatal("a crowd keeps others out for as long as it is one")
	}
}

// shelf is a desktop's notification daemon.
type shelf struct {
	bus *dbus.Conn

	mu     sync.Mutex
	shown  []string // title, body and actions
	closed int
	came   chan bool
}

func (s *shelf) GetCapabilities() ([]string, *dbus.Error) {
	return []string{"actions", "body", "body-markup"}, nil
}

func (s *shelf) Notify(_ string, _ uint32, _, title, body string, actions []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = append(s.shown, title+"|"+body+"|"+strings.Join(actions, ","))
	s.came <- true
	return uint32(len(s.shown)), nil
}

func (s *shelf) CloseNotification(uint32) *dbus.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	s.came <- true
	return nil
}

// desktopBus is the session bus of the daemon, with notifications.
func desktopBus(t *testing.T) *shelf {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is not installed")
	}
	address := "unix:path=" + filepath.Join(t.TempDir(), "bus")
	cmd := exec.Command(program, "--session", "--address="+address, "--nofork", "--nopidfile", "--nosyslog", "--print-address=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // waited for
		cmd.Wait()                          //nolint:errcheck // by that signal
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("dbus-daemon did not start: %v", err)
	}
	s := &shelf{came: make(chan bool, 64)}
	if s.bus, err = dbus.Connect(address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.bus.Close() })
	if err := s.bus.Export(s, notificationsPath, notificationsName); err != nil {
		t.Fatal(err)
	}
	if reply, err := s.bus.RequestName(notificationsName, 0); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	return s
}

func (s *shelf) wait(t *testing.T) {
	t.Helper()
	select {
	case <-s.came:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing comes to the desktop")
	}
}

func TestQuestionOnTheDesktop(t *testing.T) {
	d, peer := consenting(t)
	s := desktopBus(t)
	answer := make(chan error, 1)
	go func() {
		answer <- d.ask(t.Context(), peer, control.PermitSend, "vim", "laptop wants to send you <b>vim</b>.", func(string) {})
	}()
	s.wait(t)
	s.mu.Lock()
	if want := "hither: may laptop do this?|laptop wants to send you &lt;b&gt;vim&lt;/b&gt;.|once,Once,always,Always,no,Not now,never,Never"; s.shown[0] != want {
		t.Errorf("shown is %q", s.shown[0])
	}
	s.mu.Unlock()
	// Another program's notification is answered, then ours.
	for _, id := range []uint32{7, 1} {
		key := "never"
		if id == 1 {
			key = "always"
		}
		if err := s.bus.Emit(notificationsPath, notificationsName+".ActionInvoked", id, key); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	if p, err := d.trust.Get(peer.ID); err != nil || !p.Permissions[control.PermitSend] {
		t.Fatalf("kept: %v %v", p.Permissions, err)
	}
	s.wait(t) // it is taken back
	// One that is put away is no answer; it goes when it is answered elsewhere.
	go func() {
		answer <- d.ask(t.Context(), peer, control.PermitBring, "vim", "laptop wants to take vim.", func(string) {})
	}()
	s.wait(t)
	d.questions.overtaken(string(peer.ID), control.PermitBring, control.Deny)
	if err := <-answer; err == nil {
		t.Fatal("a no is a yes")
	}
	s.wait(t)
	if s.mu.Lock(); s.closed != 2 {
		t.Errorf("%d notifications were taken back", s.closed)
	}
	s.mu.Unlock()
}

func TestPairingOnTheDesktop(t *testing.T) {
	d, peer := consenting(t)
	s := desktopBus(t)
	p := &pairing{now: control.Pairing{Incoming: true, Name: "laptop"}}
	ctx, err := d.addPairing(p)
	if err != nil {
		t.Fatal(err)
	}
	d.changePairing(p, func(now *control.Pairing) { now.State, now.Code = control.PairingCompare, "012345" })
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d.work.Go(func() { d.noticePairing(ctx, p, peer, "012345", "a host called laptop is paired already") })
	s.wait(t)
	s.mu.Lock()
	if !strings.Contains(s.shown[0], "012 345") || !strings.Contains(s.shown[0], "Beware: a host called laptop") {
		t.Errorf("shown is %q", s.shown[0])
	}
	s.mu.Unlock()
	if err := s.bus.Emit(notificationsPath, notificationsName+".ActionInvoked", uint32(1), "same"); err != nil {
		t.Fatal(err)
	}
	select {
	case yes := <-p.answer:
		if !yes {
			t.Error("yes is no")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the answer does not come")
	}
	stop()
	s.wait(t)
}

// TestOneName: no two hosts have names here that differ in case only.
func TestOneName(t *testing.T) {
	d, peer := consenting(t)
	d.settings = &settings{now: usual()}
	id, err := transport.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	other := transport.Card{Name: "Laptop", Key: id.Public()}.Peer()
	if fresh, err := d.pin(other); err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	if p, err := d.trust.Get(other.ID); err != nil || p.Name != "Laptop-2" {
		t.Errorf("it is called %q, %v", p.Name, err)
	}
	rename := func(to string) error {
		r := httptest.NewRequest("PATCH", "/v1/peers/x", strings.NewReader(`{"name":"`+to+`"}`))
		r.SetPathValue("peer", string(peer.ID))
		_, err := d.changePeer(r)
		return err
	}
	if err := rename("laptop-2"); err == nil || !strings.Contains(err.Error(), "another host") {
		t.Error(err)
	}
	if err := rename("LAPTOP"); err != nil { // its own name, otherwise written
		t.Error(err)
	}
}

// TestWatchAfterUnpairing: the question of a host that is paired no more is answered by that, and
// the answer is forgotten: paired again, its person is asked anew.
func TestWatchAfterUnpairing(t *testing.T) {
	d, peer := consenting(t)
	if err := d.mayWatch(string(peer.ID)); err == nil {
		t.Fatal("it may watch before anybody has said so")
	}
	for len(d.questions.list()) == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := d.trust.Remove(peer.ID); err != nil {
		t.Fatal(err)
	}
	d.questions.forget(string(peer.ID))
	d.work.Wait()
	if _, said := d.questions.watching(string(peer.ID)); said {
		t.Error("the answer outlives the pairing")
	}
}

// Nobody is asked for an app that is not here, unless the asker may not know that.
func TestNobodyIsAskedForWhatIsNotHere(t *testing.T) {
	d, peer := consenting(t)
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	var err error
	if d.departed, err = openDeparted(); err != nil {
		t.Fatal(err)
	}
	d.moves = &handover.Moves{Journal: handover.FileJournal{Dir: t.TempDir()}}
	d.questions.life = 50 * time.Millisecond
	bring := func(maySee bool) error {
		peer.Permissions = map[string]bool{control.PermitWatch: maySee}
		if err := d.trust.Put(peer); err != nil {
			t.Fatal(err)
		}
		_, err := acceptor{d}.Consent(t.Context(), string(peer.ID), nil, "vim", false, func(string) {})
		return err
	}
	if err := bring(true); err == nil || !strings.Contains(err.Error(), `no app "vim"`) {
		t.Fatalf("who may see what runs here: %v", err)
	}
	if err := bring(false); err == nil || !strings.Contains(err.Error(), "nobody on") {
		t.Fatalf("who may not: %v", err)
	}
}
