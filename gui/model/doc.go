// Package model is what the window knows: a copy of what the daemon says, kept
// up to date. It knows nothing of widgets.
//
// In a nutshell: Run finds the daemon and follows its stream of events; each event names
// parts of the State that are old now, and these are asked for anew, one request for each part at
// a time. While somebody looks (SetVisible) the parts that change without an event, such as
// memory, titles and load, are asked for every few seconds. Each change makes a new State,
// which is never changed afterwards, and calls Changed. What a person wants done is asked of the
// daemon by the other methods, none of which waits: what comes of it arrives by events,
// and an error as a Notice.
//
// There is one lock, Model.mu; no call leaves the package while it is held.
package model

import (
	"context"

	"hither/engine/control"
	"hither/engine/handover"
)

// Daemon is what is asked of the daemon; a control.Client answers it.
type Daemon interface {
	Status(context.Context) (*control.Status, error)
	Doctor(context.Context) (*control.Doctor, error)
	Settings(context.Context) (*control.Settings, error)
	ChangeSettings(context.Context, control.Settings) (*control.Settings, error)

	LookAtApps(context.Context) (*control.Apps, error)
	Icon(ctx context.Context, app string, size int) ([]byte, error)
	Thumbnail(ctx context.Context, app string, width, height int) ([]byte, error)
	Installed(context.Context) (*control.InstalledApps, error)
	InstalledIcon(ctx context.Context, id string, size int) ([]byte, error)
	Outside(context.Context) (*control.OutsideApps, error)
	RestartOutside(ctx context.Context, pid int) (*control.App, error)
	Start(context.Context, control.StartRequest) (*control.App, error)
	Stop(ctx context.Context, app string, r control.StopRequest) error
	Raise(ctx context.Context, app string) error
	Files(ctx context.Context, app string) (*control.Files, error)
	ActOnFiles(ctx context.Context, app string, r control.FilesRequest) (*control.Files, error)

	Check(ctx context.Context, app, peer string) (*control.Check, error)
	Send(ctx context.Context, app, peer string, progress func(handover.Progress)) (*handover.Result, error)
	Bring(ctx context.Context, r control.MoveRequest, progress func(handover.Progress)) (*handover.Result, error)
	CancelTask(ctx context.Context, task string) error
	Claim(ctx context.Context, move string) error
	Drop(ctx context.Context, move string) error
	History(context.Context) (*control.History, error)

	AllPeers(context.Context) (*control.Peers, error)
	PeerApps(ctx context.Context, peer string) (*control.Apps, error)
	PeerIcon(ctx context.Context, peer, app string, size int) ([]byte, error)
	ChangePeer(ctx context.Context, peer string, ch control.PeerChange) (*control.Peer, error)
	Unpair(ctx context.Context, peer string) error
	BeginPairing(context.Context, control.PairingRequest) (*control.Pairing, error)
	Pairings(context.Context) (*control.Pairings, error)
	AnswerPairing(ctx context.Context, id string, match bool) (*control.Pairing, error)
	CancelPairing(ctx context.Context, id string) error
	MakeTicket(context.Context, control.TicketRequest) (*control.Ticket, error)
	Questions(context.Context) (*control.Questions, error)
	AnswerQuestion(ctx context.Context, id, answer string) error

	Listen(context.Context) (func(func(control.Event) error) error, error)
}

var _ Daemon = (*control.Client)(nil)

// Dial finds the daemon; nil means that it does not run. With start it is started.
type Dial func(ctx context.Context, start bool) (Daemon, error)

// DialControl is the Dial of the program.
func DialControl(ctx context.Context, start bool) (Daemon, error) {
	find := control.Running
	if start {
		find = control.Connect
	}
	c, err := find(ctx)
	if err != nil || c == nil {
		return nil, err
	}
	return c, nil
}
