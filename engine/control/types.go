// Package control is how the command, the window and scripts speak to the
// daemon: HTTP and JSON over the unix socket $XDG_RUNTIME_DIR/hither/control.sock.
//
// In a nutshell: Connect finds the daemon, or starts it; Client has one method
// for each request. The types in this file are what travels. Only the user's
// own processes can open the socket (its folder is closed to others), so a
// request needs no further proof.
//
//	GET  /v1/status                    Status
//	GET  /v1/apps                      Apps
//	GET  /v1/apps/APP                  App, with its processes
//	GET  /v1/apps/APP/files            Files
//	POST /v1/apps/APP/files            FilesRequest -> Files (fetch, return)
//	POST /v1/apps/APP/stop             StopRequest -> {}
//	POST /v1/apps/APP/show             {}: its window comes to the front
//	POST /v1/apps/APP/check            MoveRequest -> Check
//	POST /v1/apps/APP/send             MoveRequest -> lines of MoveLine
//	POST /v1/bring                     MoveRequest -> lines of MoveLine
//	POST /v1/tasks/TASK/cancel         {} (TASK is the first MoveLine's)
//	GET  /v1/moves                     Moves: under way or undecided
//	POST /v1/moves/MOVE/claim          {}
//	POST /v1/moves/MOVE/drop           {}
//	POST /v1/apps                      StartRequest -> App
//	GET  /v1/apps?look=1               Apps, with titles, memory and what keeps each from moving
//	GET  /v1/apps/APP/icon?size=N      a PNG
//	GET  /v1/apps/APP/thumbnail?width=W&height=H   a PNG of its window or terminal
//	GET  /v1/installed                 InstalledApps: this host's menu
//	GET  /v1/installed/ID/icon?size=N  a PNG
//	GET  /v1/outside                   OutsideApps: programs with windows that run outside of hither
//	POST /v1/outside/PID/restart       {} -> App
//	GET  /v1/history                   History: moves that have ended
//	GET  /v1/settings                  Settings
//	PUT  /v1/settings                  Settings -> Settings
//	GET  /v1/peers                     Peers; ?ping=1 asks each of them first, ?all=1 lists unpaired ones too
//	POST /v1/peers                     PeerRequest -> Peer (pair by card)
//	PATCH /v1/peers/PEER               PeerChange -> Peer
//	DELETE /v1/peers/PEER              {}
//	GET  /v1/peers/PEER/apps           Apps of that host
//	GET  /v1/peers/PEER/apps/APP/icon?size=N   a PNG
//	GET  /v1/pairings                  Pairings
//	POST /v1/pairings                  PairingRequest -> Pairing
//	POST /v1/pairings/ID/answer        PairingAnswer -> Pairing
//	DELETE /v1/pairings/ID             {}
//	POST /v1/tickets                   TicketRequest -> Ticket
//	GET  /v1/questions                 Questions: what a peer wants and a person has to say
//	POST /v1/questions/ID              QuestionAnswer -> {}
//	GET  /v1/card                      Card: this host's, for pairing
//	GET  /v1/doctor                    Doctor
//	GET  /v1/events                    lines of Event, until the client hangs up
//	PUT  /v1/holds                     Holds: hold moves still, for tests
//	POST /v1/holds/release             Holds: let them go on
//
// From a script:
//
//	curl --unix-socket $XDG_RUNTIME_DIR/hither/control.sock http://hither/v1/apps
//	hither events
//
// Pictures have an ETag and heed If-None-Match: one that has not changed costs little,
// so a window that is open may ask every few seconds. To look at an app disturbs it in
// no way. One that is on the move shows what it showed last.
//
// The stream of events says when to ask again, and how moves go. Who reads it too
// slowly loses the oldest of 256. By Event.Event:
//
//	apps        the list of apps has changed: one has come, gone, or begun to move; App, if it is known which
//	peers       likewise the list of peers; Peer
//	settings    the settings have changed
//	pairing     a pairing has gone on; Pairing
//	question    a peer wants something (Question), or one of the questions has gone (nil)
//	progress    of a move: App, Peer, Progress; Task, if it was begun by this daemon's own user
//	result      a move has ended: App, Peer, Result; Task likewise
//	undecided   a move is undecided, and its peer is not reached: Peer, Text
//	held        a move stands still, for tests: State
//
// APP is a name, an id, or the beginning of one. A request says on which desktop it
// was made (desktop.go): apps that have none appear there. An error has a status of 4xx
// or 5xx and an Error as its body. The package holds no lock.
package control

import (
	"time"

	"hither/engine/handover"
)

// Error is the body of an answer that is none.
type Error struct {
	Doing string `json:"doing,omitempty"`
	Text  string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	Code  string `json:"code,omitempty"` // CodeUsage ...
}

func (e *Error) Error() string { return e.Text }

// Codes of errors that a program may want to tell apart.
const (
	CodeUsage = "usage" // the request makes no sense: no such app, no such peer
	CodeMoved = "moved" // the app is on another host
)

// Status is the daemon's.
type Status struct {
	Version   string    `json:"version"`
	Commit    string    `json:"commit"`
	Pid       int       `json:"pid"`
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Port      int       `json:"port"`
	Addresses []string  `json:"addresses"`
	Since     time.Time `json:"since"`
	Problem   string    `json:"problem,omitempty"` // why no peer can reach it
}

// App is one app: on this host, on its way, or one that left for another host.
type App struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Title    string    `json:"title,omitempty"` // of its window or terminal
	State    string    `json:"state"`           // running, arriving, moving, undecided, waiting, gone
	Command  []string  `json:"command,omitempty"`
	Dir      string    `json:"dir,omitempty"`
	Terminal bool      `json:"terminal"`
	Since    time.Time `json:"since"`
	Origin   string    `json:"origin,omitempty"` // where it was first started, "" for here
	Host     string    `json:"host,omitempty"`   // where it is, when it is not here
	Move     string    `json:"move,omitempty"`   // undecided, waiting: for claim and drop
	Reason   string    `json:"reason,omitempty"`
	Notice   string    `json:"notice,omitempty"` // what the capsule last had to tell a person

	Keeper    int       `json:"keeper,omitempty"` // pid
	Init      int       `json:"init,omitempty"`   // pid of the capsule's pid 1, from outside
	Processes []Process `json:"processes,omitempty"`
	// Problems are what would keep it from moving to any host.
	Problems []handover.Problem `json:"problems,omitempty"`
	Memory   uint64             `json:"memory,omitempty"`  // bytes in memory that are its own
	Windows  int                `json:"windows,omitempty"` // how many it shows
}

// Process is a process of an app.
type Process struct {
	Pid     int    `json:"pid"`      // inside
	HostPid int    `json:"host_pid"` // outside
	Parent  int    `json:"parent"`   // inside
	Name    string `json:"name"`
	State   string `json:"state"`
	Threads int    `json:"threads"`
	Memory  uint64 `json:"memory"` // bytes resident
	// Service says what it is if it is a server of the capsule and not the app's.
	Service string `json:"service,omitempty"`
}

type Apps struct {
	Apps []App `json:"apps"`
}

// Peer is a host that is paired with this one, or one that is near and is not.
type Peer struct {
	ID        string    `json:"id"` // of a host that is not paired: only the beginning
	Name      string    `json:"name"`
	Paired    bool      `json:"paired"`
	Addresses []string  `json:"addresses"`
	State     string    `json:"state"` // up, down, unknown
	RTT       float64   `json:"rtt_ms,omitempty"`
	Rate      float64   `json:"rate,omitempty"` // bytes a second, of the last large transfer
	Version   string    `json:"version,omitempty"`
	Reason    string    `json:"reason,omitempty"`  // why it is down
	Warning   string    `json:"warning,omitempty"` // such as: a host of this name came with another key
	LastSeen  time.Time `json:"last_seen,omitzero"`

	// What it said last about itself; nil if it was never reached.
	Abilities   *Abilities        `json:"abilities,omitempty"`
	Permissions map[string]string `json:"permissions,omitempty"` // PermitSend ... -> Allow, Deny, Ask
}

// Abilities are what a host can take, as it says itself.
type Abilities struct {
	OS         string  `json:"os"`
	Arch       string  `json:"arch"`
	Kernel     string  `json:"kernel,omitempty"`
	CPUs       int     `json:"cpus,omitempty"`
	Load       float64 `json:"load"`                  // processes that want to run, over the last minute
	Memory     uint64  `json:"memory,omitempty"`      // bytes
	MemoryFree uint64  `json:"memory_free,omitempty"` // bytes
	Display    bool    `json:"display"`               // it has a desktop for windows
	UID        int     `json:"uid"`
	GID        int     `json:"gid"`
	CPUFlags   string  `json:"cpu_flags,omitempty"` // hash of the features, to compare
}

type Peers struct {
	Peers []Peer `json:"peers"`
}

// PeerRequest pairs with the host of the card.
type PeerRequest struct {
	Card string `json:"card"`
	Name string `json:"name,omitempty"` // instead of the card's
}

type Card struct {
	Card string `json:"card"`
}

type StopRequest struct {
	Grace float64 `json:"grace"` // seconds until what is left is killed
}

// MoveRequest asks for a move. App is set for bring only.
type MoveRequest struct {
	Peer  string `json:"peer"`
	App   string `json:"app,omitempty"`
	Check bool   `json:"check,omitempty"` // bring: only ask
}

// MoveLine is one line of a move's answer: first the task, then progress, at
// last the result.
type MoveLine struct {
	Task     string             `json:"task,omitempty"`
	Progress *handover.Progress `json:"progress,omitempty"`
	Result   *handover.Result   `json:"result,omitempty"`
}

// Check is the answer to: would it move?
type Check struct {
	App      string             `json:"app"`
	Peer     string             `json:"peer"`
	OK       bool               `json:"ok"`
	Problems []handover.Problem `json:"problems"`
	Notes    []string           `json:"notes,omitempty"`
}

type Moves struct {
	Moves []handover.Pending `json:"moves"`
}

// Files is what an app took along and wrote, and where that lies.
type Files struct {
	App   string   `json:"app"`
	Host  string   `json:"host,omitempty"` // where they lie, if not here
	Dir   string   `json:"dir,omitempty"`  // the folder on this host
	Files []File   `json:"files"`
	Notes []string `json:"notes,omitempty"`
}

// File is one file that an app took along.
type File struct {
	Path  string `json:"path"` // as the app sees it
	State string `json:"state"`
	Size  int64  `json:"size"`
	Here  string `json:"here,omitempty"` // where its bytes lie on this host; after a return, on the one it came from
	Why   string `json:"why,omitempty"`
}

// FilesRequest says what to do with files.
type FilesRequest struct {
	Action string   `json:"action"` // fetch, return
	To     string   `json:"to,omitempty"`
	Paths  []string `json:"paths,omitempty"`
}

// Doctor is what this host can do.
type Doctor struct {
	OK     bool     `json:"ok"` // apps can run and move
	Host   string   `json:"host"`
	Probes []Probe  `json:"probes"`
	Moves  []string `json:"moves,omitempty"` // undecided ones, in a sentence each
}

// Probe is one ability.
type Probe struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Need   bool   `json:"need"` // without it nothing works
	Detail string `json:"detail,omitempty"`
	Cure   string `json:"cure,omitempty"`
}

// Event is one line of the stream of events.
type Event struct {
	Time     time.Time          `json:"time"`
	Event    string             `json:"event"` // see the package comment
	App      string             `json:"app,omitempty"`
	Peer     string             `json:"peer,omitempty"`
	State    string             `json:"state,omitempty"`
	Text     string             `json:"text,omitempty"`
	Task     string             `json:"task,omitempty"`
	Progress *handover.Progress `json:"progress,omitempty"`
	Result   *handover.Result   `json:"result,omitempty"`
	Pairing  *Pairing           `json:"pairing,omitempty"`
	Question *Question          `json:"question,omitempty"` // nil when one has gone: ask for the list
}

// Holds names states of the hand-over, as in "source:freeze,destination:ready".
type Holds struct {
	States   string `json:"states"`
	Released int    `json:"released,omitempty"`
}
