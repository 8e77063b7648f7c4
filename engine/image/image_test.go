package image

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// small is an image that is valid.
func small() *App {
	thread := Thread{Tid: 2, Regs: make([]byte, RegsSize), XState: make([]byte, 1024), Comm: "x"}
	return &App{
		Version: Version, ID: "abc123", Name: "x", Main: 2,
		Files: []File{{ID: 1, Kind: FilePath, Path: "/usr/bin/x"}},
		Shared: []SharedMemory{{ID: 1, Size: 8192, Name: "m", MemFD: true},
			{ID: 2, Size: 5000, Segment: &SystemV{ID: 32769, Key: -3, Mode: 0o600, Dest: true}}},
		Semaphores: []Semaphores{{SystemV: SystemV{ID: 3}, Values: []uint16{7, 0}, Undo: []SemaphoreUndo{{Pid: 2, Number: 1, Adjust: -1}}}},
		Queues:     []Queue{{SystemV: SystemV{ID: 0, Key: 5}, Limit: 16384, Messages: []Message{{Type: 1, Text: []byte("hello")}}}},
		Handles:    []Handle{{ID: 1, Kind: "file"}},
		Processes: []Process{
			{Pid: 2, Parent: 1, Group: 2, Session: 2, Comm: "x", Exe: 1, Cwd: "/", Root: "/", Threads: []Thread{thread},
				VMAs: []VMA{{Start: 0x1000, End: 0x3000, Prot: 3, Backing: BackAnon}, {Start: 0x4000, End: 0x6000, Backing: BackShared, Object: 1, Shared: true},
					{Start: 0x7000, End: 0x8000, Offset: 0x1000, Backing: BackShared, Object: 2, Shared: true}},
				Descriptors: []Descriptor{{FD: 0, Handle: 1}, {FD: 5, Handle: 1, CloExec: true}}},
			{Pid: 3, Parent: 2, Group: 2, Session: 2, Zombie: true, ExitStatus: 256},
		},
		Portals: []Descriptor{{FD: 10, Handle: 1}},
	}
}

func TestRoundTrip(t *testing.T) {
	want := small()
	b, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestDamaged makes an image invalid in every way that Validate knows.
func TestDamaged(t *testing.T) {
	for name, spoil := range map[string]func(a *App){
		"version":        func(a *App) { a.Version = Version + 1 },
		"no processes":   func(a *App) { a.Processes = nil },
		"id":             func(a *App) { a.ID = "../../etc" },
		"empty id":       func(a *App) { a.ID = "" },
		"order":          func(a *App) { a.Processes[0], a.Processes[1] = a.Processes[1], a.Processes[0] },
		"pid 1":          func(a *App) { a.Processes[0].Pid = 1 },
		"huge pid":       func(a *App) { a.Processes[1].Pid = 1 << 22 },
		"pid twice":      func(a *App) { a.Processes[1].Pid = 2 },
		"no thread":      func(a *App) { a.Processes[0].Threads = nil },
		"leader":         func(a *App) { a.Processes[0].Threads[0].Tid = 7 },
		"registers":      func(a *App) { a.Processes[0].Threads[0].Regs = nil },
		"xstate":         func(a *App) { a.Processes[0].Threads[0].XState = make([]byte, MaxXState+1) },
		"signal":         func(a *App) { a.Processes[0].Pending = []SigInfo{make([]byte, 5)} },
		"exe":            func(a *App) { a.Processes[0].Exe = 9 },
		"cwd":            func(a *App) { a.Processes[0].Cwd = "relative" },
		"descriptor":     func(a *App) { a.Processes[0].Descriptors[0].Handle = 4 },
		"same fd":        func(a *App) { a.Processes[0].Descriptors[1].FD = 0 },
		"negative fd":    func(a *App) { a.Processes[0].Descriptors[0].FD = -1 },
		"mapping order":  func(a *App) { v := a.Processes[0].VMAs; v[0], v[1] = v[1], v[0] },
		"mapping in 0":   func(a *App) { a.Processes[0].VMAs[0].Start = 0 },
		"mapping kernel": func(a *App) { a.Processes[0].VMAs[1].End = 1 << 63 },
		"mapping object": func(a *App) { a.Processes[0].VMAs[1].Object = 77 },
		"backing":        func(a *App) { a.Processes[0].VMAs[0].Backing = 99 },
		"protection":     func(a *App) { a.Processes[0].VMAs[0].Prot = 8 },
		"guard":          func(a *App) { a.Processes[0].VMAs[0].Guards = [][2]uint64{{0x9000, 0xa000}} },
		"file twice":     func(a *App) { a.Files = append(a.Files, a.Files[0]) },
		"file path":      func(a *App) { a.Files[0].Path = "/a\x00b" },
		"long path":      func(a *App) { a.Files[0].Path = "/" + strings.Repeat("a", MaxString) },
		"shared size":    func(a *App) { a.Shared[0].Size = 1 << 60 },
		"segment twice": func(a *App) {
			a.Shared = append(a.Shared, SharedMemory{ID: 3, Size: 1, Segment: &SystemV{ID: 32769}})
		},
		"segment key": func(a *App) {
			a.Shared = append(a.Shared, SharedMemory{ID: 3, Size: 1, Segment: &SystemV{ID: 1, Key: -3}})
		},
		"segment id":      func(a *App) { a.Shared[1].Segment.ID = 1 << 31 },
		"segment mode":    func(a *App) { a.Shared[1].Segment.Mode = 0o1600 },
		"segment size":    func(a *App) { a.Shared[1].Size = 0 },
		"segment outside": func(a *App) { a.Processes[0].VMAs[2].Offset = 0x2000 },
		"segment private": func(a *App) { a.Processes[0].VMAs[2].Shared = false },
		"no semaphore":    func(a *App) { a.Semaphores[0].Values = nil },
		"semaphore value": func(a *App) { a.Semaphores[0].Values[0] = 1 << 15 },
		"undo process":    func(a *App) { a.Semaphores[0].Undo[0].Pid = 99 },
		"undo number":     func(a *App) { a.Semaphores[0].Undo[0].Number = 2 },
		"queue twice":     func(a *App) { a.Queues = append(a.Queues, a.Queues[0]) },
		"message type":    func(a *App) { a.Queues[0].Messages[0].Type = 0 },
		"long message":    func(a *App) { a.Queues[0].Messages[0].Text = make([]byte, MaxMessageSize+1) },
		"handle kind":     func(a *App) { a.Handles[0].Kind = "" },
		"portal":          func(a *App) { a.Portals[0].Handle = 3 },
		"zombie":          func(a *App) { a.Processes[1].Descriptors = []Descriptor{{FD: 1, Handle: 1}} },
		"lock":            func(a *App) { a.Locks = []Lock{{Kind: 9}} },
		"vdso":            func(a *App) { a.Machine.VDSO = make([]byte, 1<<17) },
		"limits":          func(a *App) { a.Processes[0].Rlimits = make([]Rlimit, 17) },
		"long name":       func(a *App) { a.Processes[0].Comm = strings.Repeat("x", 16) },
		"exit signal":     func(a *App) { a.Processes[0].ExitSignal = 65 },
		"terminal":        func(a *App) { a.Processes[0].Terminal = -2 },
	} {
		a := small()
		spoil(a)
		b, err := cbor.Marshal(a)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := Decode(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good, _ := small().Encode()
	for _, cut := range []int{0, 1, len(good) / 2, len(good) - 1} {
		if _, err := Decode(good[:cut]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	if _, err := Decode(append(bytes.Clone(good), 0)); !errors.Is(err, ErrDamaged) {
		t.Error("bytes after the end are taken")
	}
}

func FuzzDecode(f *testing.F) {
	good, err := small().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Decode(b)
		if err != nil {
			return
		}
		if _, err := a.Encode(); err != nil {
			t.Errorf("decoded, but cannot be encoded: %v", err)
		}
	})
}
