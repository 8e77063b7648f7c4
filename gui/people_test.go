package gui

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/test"

	"hither/engine/control"
	"hither/gui/model/fake"
)

// makeProgram puts an empty program into a folder of its own.
func makeProgram(t *testing.T, name string) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (r *rig) pairing(p control.Pairing) {
	p.ID = "pairing"
	r.d.Event(control.Event{Event: "pairing", Pairing: &p})
}

// big finds the digits.
func (r *rig) big() string {
	for _, o := range test.LaidOutObjects(r.w.win.Canvas().Overlays().Top()) {
		if t, ok := o.(*canvas.Text); ok && t.TextSize > 40 && t.Visible() {
			return t.Text
		}
	}
	return ""
}

func TestPairingFromHere(t *testing.T) {
	r := newRig(t, usual)
	r.w.machines.cards["strang"].pair.Tapped(nil)
	r.called("pair strang")
	r.until("the sheet is open", func() bool { return len(r.w.sheets) == 1 })
	r.pairing(control.Pairing{State: control.PairingCompare, Name: "stranger", Code: "123456"})
	r.until("both compare", func() bool { return r.big() == "123 456" })
	r.shot("compare")
	// Enter must not say yes by chance.
	if b, ok := r.w.win.Canvas().Focused().(*button); !ok || b.Text != "No" {
		t.Error("the focus is not on the safe choice")
	}
	r.press("Yes, the same")
	r.called("answer pairing true")
	r.until("it waits", func() bool { return r.says("Waiting until somebody says yes on laptop, too.") })
	r.pairing(control.Pairing{State: control.PairingDone, Name: "stranger"})
	r.until("it is done", func() bool {
		return r.says("stranger and this machine are paired. Drag an app onto it to move it there.")
	})
	r.shot("paired")
	r.press("Done")
	if len(r.w.sheets) != 0 {
		t.Error("the sheet stays")
	}
	for _, c := range r.d.Calls() {
		if strings.HasPrefix(c, "cancel") {
			t.Error("a pairing that is done was cancelled")
		}
	}
}

func TestPairingFromThere(t *testing.T) {
	r := newRig(t, usual)
	r.pairing(control.Pairing{State: control.PairingCompare, Name: "laptop", Code: "654321", Incoming: true, Warning: "A machine named laptop is paired already, with another key."})
	r.until("it comes up by itself, with its warning", func() bool {
		return len(r.w.sheets) == 1 && r.big() == "654 321" && r.says("A machine named laptop is paired already, with another key.")
	})
	r.shot("incoming")
	r.press("No")
	r.called("answer pairing false")
	r.until("it says that they differ", func() bool { return r.says("Not paired: the digits differ") })
	r.press("Close")
	r.pairing(control.Pairing{State: control.PairingFailed, Name: "laptop", Reason: "the digits differ"})
	r.until("it does not come again", func() bool { return r.w.state.Pairing("pairing").State == control.PairingFailed })
	if len(r.w.sheets) != 0 {
		t.Error("it comes again")
	}
}

func TestPairingIsCancelled(t *testing.T) {
	r := newRig(t, usual)
	r.pairing(control.Pairing{State: control.PairingCompare, Name: "laptop", Code: "654321", Incoming: true})
	r.until("it comes up", func() bool { return len(r.w.sheets) == 1 })
	r.key(fyne.KeyEscape)
	r.called("cancel pairing pairing")
}

func TestPairingByAddressAndTicket(t *testing.T) {
	r := newRig(t, usual)
	type_ := func(said string) {
		r.w.openPair()
		for _, o := range test.LaidOutObjects(r.top().popup.Content) {
			if f, ok := o.(*field); ok {
				f.SetText(said)
				f.OnSubmitted(said)
				return
			}
		}
		t.Fatal("no field")
	}
	type_("192.168.7.7")
	r.called("pair 192.168.7.7")
	r.until("it is followed", func() bool { return r.w.sheet("pairing/pairing") != nil })
	r.w.closeSheet("pairing/pairing")
	ticket := "hither-ticket-" + strings.Repeat("abcd", 20)
	if !isTicket(ticket) || isTicket("laptop.example.org:44843") || isTicket("[fe80::1%eth0]:44843") {
		t.Error("tickets and addresses are mixed up")
	}
	type_(ticket)
	r.called("pair " + ticket)
}

func TestTicket(t *testing.T) {
	r := newRig(t, usual)
	r.w.openPair()
	r.press("Make a ticket")
	r.called("ticket")
	r.until("it can be copied", func() bool {
		for _, o := range test.LaidOutObjects(r.top().popup.Content) {
			if b, ok := o.(*button); ok && b.Text == "Copy" && !b.Disabled() {
				return true
			}
		}
		return false
	})
	r.shot("ticket")
	r.press("Copy")
	if got := r.w.app.Clipboard().Content(); !strings.HasPrefix(got, "hither-ticket:") {
		t.Errorf("the clipboard has %q", got)
	}
}

func TestQRCode(t *testing.T) {
	img, err := qrImage("hither:" + strings.Repeat("x", 300))
	if err != nil {
		t.Fatal(err)
	}
	if b := img.Bounds(); b.Dx() < 100 || b.Dx() != b.Dy() {
		t.Errorf("a picture of %v", b)
	}
	if _, err := qrImage(strings.Repeat("x", 10_000)); err == nil {
		t.Error("what does not fit is drawn")
	}
}

func TestQuestion(t *testing.T) {
	r := newRig(t, usual)
	ask := func(id string) {
		q := control.Question{ID: id, Peer: "laptop", PeerID: "laptopid", Permit: control.PermitSend, App: "gedit", Text: "laptop wants to send you gedit", Expires: time.Now().Add(time.Minute)}
		r.d.With("", func(d *fake.Daemon) { d.Asked = []control.Question{q} })
		r.d.Event(control.Event{Event: "question", Question: &q})
		r.until("it is asked", func() bool { return r.w.sheet("question/"+id) != nil && r.says("laptop wants to send you gedit") })
	}
	for label, answer := range map[string]string{"Yes, this time": "once", "Always": "always", "Not now": "no", "Never": "never"} {
		ask(answer)
		if b, ok := r.w.win.Canvas().Focused().(*button); !ok || b.Text != "Not now" {
			t.Error("the focus is not on the safe choice")
		}
		r.shot("question")
		r.press(label)
		r.called("answer question " + answer + " " + answer)
	}
	ask("gone")
	r.d.With("question", func(d *fake.Daemon) { d.Asked = nil })
	r.until("it goes when it was answered elsewhere", func() bool { return len(r.w.sheets) == 0 })
	ask("escaped")
	r.key(fyne.KeyEscape)
	r.called("answer question escaped no")
}

func TestPermissionsRenameUnpair(t *testing.T) {
	r := newRig(t, usual)
	r.w.openMachine("laptopid")
	for _, o := range test.LaidOutObjects(r.top().popup.Content) {
		if s, ok := o.(interface{ SetSelected(string) }); ok {
			s.SetSelected("Never")
			break
		}
	}
	r.called("change laptopid map[send:deny]")
	r.press("Rename…")
	r.w.win.Canvas().Focused().(*field).SetText("notebook")
	r.press("Rename")
	r.called("change laptopid notebookmap[]")
	r.w.openUnpair(*r.w.state.Machine("laptopid"))
	r.press("Unpair")
	r.called("unpair laptopid")
}

func TestAnotherKeyIsWarnedOf(t *testing.T) {
	r := newRig(t, func(d *fake.Daemon) {
		usual(d)
		d.Peers[0].Warning = "a machine named laptop came with another key"
	})
	if c := r.w.machines.cards["laptopid"]; !c.warn.Visible() || c.warning.said != "a machine named laptop came with another key" {
		t.Error("it is not told")
	}
}
