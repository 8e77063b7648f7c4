// Package image is a frozen capsule as data: records, their encoding, their
// versions and their limits. It knows no other package of hither, makes no
// system call and can be tested without a kernel.
//
// In a nutshell: checkpoint fills an App, encoding turns it into one bounded
// block of CBOR with integer keys, restore reads it back. The bytes of memory
// are not in here: they travel beside the records as page runs (package
// memory), named by process or by shared-memory id, so that an image stays
// small and can be checked as a whole before anything is built from it.
//
// Rules of the schema: a field's number is never used again for another
// meaning; what a reader does not know it ignores, what is missing is zero;
// every number that sizes something is checked by Validate before use.
package image

// Version is the schema's version. A reader refuses images of a higher one.
const Version = 1

// App is everything a frozen capsule is, except the bytes of its memory.
type App struct {
	Version int    `cbor:"1,keyasint"`
	ID      string `cbor:"2,keyasint"` // the capsule's, the same on every host
	Name    string `cbor:"3,keyasint"`
	Main    int    `cbor:"4,keyasint"` // pid of the process hither run started; 0 if it has ended

	Machine Machine `cbor:"5,keyasint"`
	Clocks  Clocks  `cbor:"6,keyasint"`

	Processes []Process      `cbor:"7,keyasint"` // parents before children
	Handles   []Handle       `cbor:"8,keyasint"` // open file descriptions, each once, ids unique
	Shared    []SharedMemory `cbor:"9,keyasint"` // shared memory that several mappings or a memfd name
	Files     []File         `cbor:"10,keyasint"`
	Locks     []Lock         `cbor:"11,keyasint"`

	// Portals are descriptors of pid 1: ends of pseudo-terminals whose other
	// end is inside. FD is the number in pid 1's table.
	Portals []Descriptor `cbor:"12,keyasint,omitempty"`
	LastPid int          `cbor:"13,keyasint,omitempty"` // ns_last_pid at the freeze

	Semaphores []Semaphores `cbor:"14,keyasint,omitempty"`
	Queues     []Queue      `cbor:"15,keyasint,omitempty"`
}

// Machine is what the code in the image may rely on.
type Machine struct {
	Arch        string   `cbor:"1,keyasint"`           // "amd64"
	Kernel      string   `cbor:"2,keyasint"`           // release, for messages only
	CPUFlags    []string `cbor:"3,keyasint,omitempty"` // flags of /proc/cpuinfo that user code can use, sorted
	XStateSize  int      `cbor:"4,keyasint"`           // bytes of the XSAVE area
	XStateMask  uint64   `cbor:"5,keyasint"`           // XCR0
	VDSOHash    []byte   `cbor:"6,keyasint"`           // of the vdso's text
	PageSize    int      `cbor:"7,keyasint"`
	VDSOSymbols []Symbol `cbor:"8,keyasint,omitempty"`
	VDSO        []byte   `cbor:"9,keyasint,omitempty"` // its bytes, for a host with another one
}

// Symbol is a named offset in the vdso's image.
type Symbol struct {
	Name   string `cbor:"1,keyasint"`
	Offset uint64 `cbor:"2,keyasint"`
}

// Clocks are the capsule's clocks at the freeze, in nanoseconds.
type Clocks struct {
	Monotonic int64 `cbor:"1,keyasint"`
	Boottime  int64 `cbor:"2,keyasint"`
	Realtime  int64 `cbor:"3,keyasint"`
}

// Process is one process, pids as seen inside the capsule.
type Process struct {
	Pid        int    `cbor:"1,keyasint"`
	Parent     int    `cbor:"2,keyasint"` // 1 for children of the capsule's init
	Group      int    `cbor:"3,keyasint"`
	Session    int    `cbor:"4,keyasint"` // 0: that of nobody in the capsule
	ExitSignal int    `cbor:"5,keyasint"`
	Zombie     bool   `cbor:"6,keyasint,omitempty"`
	ExitStatus int    `cbor:"7,keyasint,omitempty"` // wait status of a zombie
	Comm       string `cbor:"8,keyasint"`

	// Terminal is the number of the controlling terminal below /dev/pts, plus
	// one, set for session leaders that have one; Foreground its foreground group.
	Terminal   int `cbor:"9,keyasint,omitempty"`
	Foreground int `cbor:"10,keyasint,omitempty"`

	Exe   uint32 `cbor:"11,keyasint,omitempty"` // file id
	Cwd   string `cbor:"12,keyasint,omitempty"`
	Root  string `cbor:"13,keyasint,omitempty"` // "/" unless chrooted
	Umask uint32 `cbor:"14,keyasint,omitempty"`

	Creds       Creds        `cbor:"15,keyasint"`
	Dumpable    int          `cbor:"16,keyasint"`
	SubReaper   bool         `cbor:"17,keyasint,omitempty"`
	NoNewPrivs  bool         `cbor:"18,keyasint,omitempty"`
	Rlimits     []Rlimit     `cbor:"19,keyasint,omitempty"` // index: RLIMIT_*
	OOMScoreAdj int          `cbor:"20,keyasint,omitempty"`
	Personality uint32       `cbor:"21,keyasint,omitempty"`
	THPDisable  bool         `cbor:"22,keyasint,omitempty"`
	Stopped     bool         `cbor:"23,keyasint,omitempty"` // job control stop
	Layout      Layout       `cbor:"24,keyasint"`
	VMAs        []VMA        `cbor:"25,keyasint,omitempty"` // ascending
	SigActions  []SigAction  `cbor:"26,keyasint,omitempty"` // index: signal-1
	Pending     []SigInfo    `cbor:"27,keyasint,omitempty"` // process-wide
	ITimers     []ITimer     `cbor:"28,keyasint,omitempty"` // index: ITIMER_*
	PosixTimers []PosixTimer `cbor:"29,keyasint,omitempty"`
	Threads     []Thread     `cbor:"30,keyasint,omitempty"` // the leader first
	Descriptors []Descriptor `cbor:"31,keyasint,omitempty"`
	StopSignal  int          `cbor:"32,keyasint,omitempty"`
}

// Creds are credentials, ids as inside the capsule (where they map to
// themselves). The capability words are bit masks.
type Creds struct {
	UID         [4]uint32 `cbor:"1,keyasint"` // real, effective, saved, fs
	GID         [4]uint32 `cbor:"2,keyasint"`
	Groups      []uint32  `cbor:"3,keyasint,omitempty"`
	Inheritable uint64    `cbor:"4,keyasint,omitempty"`
	Permitted   uint64    `cbor:"5,keyasint,omitempty"`
	Effective   uint64    `cbor:"6,keyasint,omitempty"`
	Bounding    uint64    `cbor:"7,keyasint,omitempty"`
	Ambient     uint64    `cbor:"8,keyasint,omitempty"`
	SecureBits  uint32    `cbor:"9,keyasint,omitempty"`
}

// Rlimit is one resource limit; ^uint64(0) is infinity.
type Rlimit struct {
	Cur uint64 `cbor:"1,keyasint"`
	Max uint64 `cbor:"2,keyasint"`
}

// Layout is what PR_SET_MM_MAP sets (include/uapi/linux/prctl.h, struct prctl_mm_map).
type Layout struct {
	StartCode  uint64 `cbor:"1,keyasint"`
	EndCode    uint64 `cbor:"2,keyasint"`
	StartData  uint64 `cbor:"3,keyasint"`
	EndData    uint64 `cbor:"4,keyasint"`
	StartBrk   uint64 `cbor:"5,keyasint"`
	Brk        uint64 `cbor:"6,keyasint"`
	StartStack uint64 `cbor:"7,keyasint"`
	ArgStart   uint64 `cbor:"8,keyasint"`
	ArgEnd     uint64 `cbor:"9,keyasint"`
	EnvStart   uint64 `cbor:"10,keyasint"`
	EnvEnd     uint64 `cbor:"11,keyasint"`
	Auxv       []byte `cbor:"12,keyasint,omitempty"`
}

// Backing says what a mapping shows.
type Backing uint8

const (
	BackAnon   Backing = iota + 1 // private anonymous memory
	BackFile                      // File, private or shared
	BackShared                    // SharedMemory, by Object (shared or private mapping of a memfd)
	BackVDSO                      // the kernel's vdso
	BackVVar                      // the kernel's vvar pages, of any name
)

// VMA is one mapping of a process's address space.
type VMA struct {
	Start   uint64  `cbor:"1,keyasint"`
	End     uint64  `cbor:"2,keyasint"`
	Prot    uint32  `cbor:"3,keyasint"` // PROT_*
	Shared  bool    `cbor:"4,keyasint,omitempty"`
	Backing Backing `cbor:"5,keyasint"`
	Object  uint32  `cbor:"6,keyasint,omitempty"` // file or shared-memory id
	Offset  uint64  `cbor:"7,keyasint,omitempty"` // bytes into the object
	Name    string  `cbor:"8,keyasint,omitempty"` // PR_SET_VMA_ANON_NAME, or "[vvar]" and its like
	Flags   VMAFlag `cbor:"9,keyasint,omitempty"`
	// Writable is set for shared file mappings opened for writing (VM_MAYWRITE).
	Writable bool `cbor:"10,keyasint,omitempty"`
	// Guards are ranges [start, end) with guard markers (madvise MADV_GUARD_INSTALL).
	Guards [][2]uint64 `cbor:"11,keyasint,omitempty"`
}

// VMAFlag holds the properties of a mapping that mmap and mprotect do not set.
type VMAFlag uint32

const (
	VMAGrowsDown VMAFlag = 1 << iota
	VMALocked
	VMADontFork
	VMADontDump
	VMAWipeOnFork
	VMAHugePage
	VMANoHugePage
	VMAMergeable
	VMASealed
	VMANoReserve
	VMADroppable
	VMALockOnFault
	VMASeqRead
	VMARandRead
)

// SigAction is the kernel's struct sigaction on x86-64.
type SigAction struct {
	Handler  uint64 `cbor:"1,keyasint,omitempty"`
	Flags    uint64 `cbor:"2,keyasint,omitempty"`
	Restorer uint64 `cbor:"3,keyasint,omitempty"`
	Mask     uint64 `cbor:"4,keyasint,omitempty"`
}

// SigInfo is one queued signal: the kernel's 128 bytes of siginfo_t.
type SigInfo []byte

// ITimer is a struct itimerval, in microseconds.
type ITimer struct {
	Interval int64 `cbor:"1,keyasint,omitempty"`
	Value    int64 `cbor:"2,keyasint,omitempty"`
}

// PosixTimer is one timer_create timer.
type PosixTimer struct {
	ID       int    `cbor:"1,keyasint"`
	Clock    int    `cbor:"2,keyasint"`
	Notify   int    `cbor:"3,keyasint"` // SIGEV_*
	Signal   int    `cbor:"4,keyasint,omitempty"`
	Value    uint64 `cbor:"5,keyasint,omitempty"` // sigev_value
	Thread   int    `cbor:"6,keyasint,omitempty"` // tid of SIGEV_THREAD_ID
	Interval int64  `cbor:"7,keyasint,omitempty"` // ns
	Expiry   int64  `cbor:"8,keyasint,omitempty"` // ns left at the freeze; 0: disarmed
	Overrun  int    `cbor:"9,keyasint,omitempty"`
}

// Restart says how to resume a system call that the freeze interrupted and
// that the kernel would not resume by itself.
type Restart struct {
	Nr uint64 `cbor:"1,keyasint"` // the call to issue again
	// Left is the time left of a relative time-out at the freeze, in ns;
	// -1 if the call has none.
	Left int64 `cbor:"2,keyasint"`
}

// Thread is one thread.
type Thread struct {
	Tid         int       `cbor:"1,keyasint"`
	Regs        []byte    `cbor:"2,keyasint"` // struct user_regs_struct
	XState      []byte    `cbor:"3,keyasint"` // NT_X86_XSTATE
	SigMask     uint64    `cbor:"4,keyasint,omitempty"`
	Pending     []SigInfo `cbor:"5,keyasint,omitempty"`
	AltStack    []byte    `cbor:"6,keyasint,omitempty"` // stack_t, 24 bytes
	RobustHead  uint64    `cbor:"7,keyasint,omitempty"`
	RobustLen   uint64    `cbor:"8,keyasint,omitempty"`
	TidAddress  uint64    `cbor:"9,keyasint,omitempty"`
	RseqAddr    uint64    `cbor:"10,keyasint,omitempty"`
	RseqLen     uint32    `cbor:"11,keyasint,omitempty"`
	RseqSig     uint32    `cbor:"12,keyasint,omitempty"`
	Comm        string    `cbor:"13,keyasint,omitempty"`
	Nice        int       `cbor:"14,keyasint,omitempty"`
	Policy      int       `cbor:"15,keyasint,omitempty"`
	Priority    int       `cbor:"16,keyasint,omitempty"`
	Affinity    []byte    `cbor:"17,keyasint,omitempty"` // nil: all processors
	DeathSignal int       `cbor:"18,keyasint,omitempty"`
	TimerSlack  uint64    `cbor:"19,keyasint,omitempty"`
	Restart     *Restart  `cbor:"20,keyasint,omitempty"`
	Creds       *Creds    `cbor:"21,keyasint,omitempty"` // where they differ from the process's
}

// Descriptor is an entry of a process's descriptor table.
type Descriptor struct {
	FD      int    `cbor:"1,keyasint"`
	Handle  uint32 `cbor:"2,keyasint"`
	CloExec bool   `cbor:"3,keyasint,omitempty"`
}

// Handle is one open file description. Kind names the file of package handle
// that captured it; Data is that kind's own record, in CBOR.
type Handle struct {
	ID    uint32 `cbor:"1,keyasint"` // from 1
	Kind  string `cbor:"2,keyasint"`
	Flags uint32 `cbor:"3,keyasint,omitempty"` // O_*, as F_GETFL
	Data  []byte `cbor:"4,keyasint,omitempty"`
	// Owner is F_GETOWN_EX: type and id; Signal F_GETSIG.
	OwnerType int `cbor:"5,keyasint,omitempty"`
	Owner     int `cbor:"6,keyasint,omitempty"`
	Signal    int `cbor:"7,keyasint,omitempty"`
}

// SharedMemory is memory that is not private to one mapping: a memfd, a shared
// anonymous mapping, or a segment of System V. Its bytes travel as page runs under its id.
type SharedMemory struct {
	ID    uint32 `cbor:"1,keyasint"`
	Name  string `cbor:"2,keyasint,omitempty"` // of the memfd; "" for MAP_SHARED|MAP_ANONYMOUS
	Size  uint64 `cbor:"3,keyasint"`           // bytes
	Seals uint32 `cbor:"4,keyasint,omitempty"`
	MemFD bool   `cbor:"5,keyasint,omitempty"`
	Mode  uint32 `cbor:"6,keyasint,omitempty"`
	// Segment is set for memory of System V (shmget): its Size is the one that
	// was asked for, not a multiple of the page size.
	Segment *SystemV `cbor:"7,keyasint,omitempty"`
}

// SystemV is what all objects of System V IPC have, as in sysvipc(7): struct
// ipc64_perm (include/uapi/asm-generic/ipcbuf.h).
type SystemV struct {
	ID   int    `cbor:"1,keyasint"` // what shmget and its like return
	Key  int32  `cbor:"2,keyasint,omitempty"`
	Mode uint32 `cbor:"3,keyasint,omitempty"` // permissions
	UID  uint32 `cbor:"4,keyasint,omitempty"` // the owner
	GID  uint32 `cbor:"5,keyasint,omitempty"`
	// Dest: a segment that goes when the last one lets go of it (IPC_RMID was called).
	Dest   bool `cbor:"6,keyasint,omitempty"`
	Locked bool `cbor:"7,keyasint,omitempty"` // SHM_LOCK
}

// Semaphores is a set of semaphores of System V.
type Semaphores struct {
	SystemV SystemV  `cbor:"1,keyasint"`
	Values  []uint16 `cbor:"2,keyasint"`
	// Undo is what each process's end will add to them (SEM_UNDO).
	Undo []SemaphoreUndo `cbor:"3,keyasint,omitempty"`
}

// SemaphoreUndo is what a process's end will add to one semaphore of a set.
type SemaphoreUndo struct {
	Pid    int `cbor:"1,keyasint"`
	Number int `cbor:"2,keyasint,omitempty"` // which of the set
	Adjust int `cbor:"3,keyasint"`
}

// Queue is a message queue of System V.
type Queue struct {
	SystemV  SystemV   `cbor:"1,keyasint"`
	Limit    uint64    `cbor:"2,keyasint"` // msg_qbytes
	Messages []Message `cbor:"3,keyasint,omitempty"`
}

// Message waits in a Queue.
type Message struct {
	Type int64  `cbor:"1,keyasint"`
	Text []byte `cbor:"2,keyasint,omitempty"`
}

// FileKind says how a file is found again at the destination.
type FileKind uint8

const (
	FilePath    FileKind = iota + 1 // by Path: the host's own or the capsule's carried one
	FileDeleted                     // deleted but open or mapped: its bytes travel
	FileDevice                      // /dev/null and its family, by Path
	FileDir                         // a directory
	FileFIFO                        // a named pipe
)

// File is an inode that the app has open or mapped.
type File struct {
	ID   uint32   `cbor:"1,keyasint"` // from 1
	Kind FileKind `cbor:"2,keyasint"`
	Path string   `cbor:"3,keyasint"` // as seen inside the capsule
	Size int64    `cbor:"4,keyasint,omitempty"`
	Mode uint32   `cbor:"5,keyasint,omitempty"`
	// MTime in ns since the epoch.
	MTime int64  `cbor:"6,keyasint,omitempty"`
	Dev   uint64 `cbor:"7,keyasint,omitempty"` // at the source, to tell files apart
	Ino   uint64 `cbor:"8,keyasint,omitempty"`
}

// LockKind is the family of a file lock.
type LockKind uint8

const (
	LockFlock LockKind = iota + 1
	LockPosix          // owned by a process
	LockOFD            // owned by an open file description
)

// Lock is one held file lock.
type Lock struct {
	Kind   LockKind `cbor:"1,keyasint"`
	Write  bool     `cbor:"2,keyasint,omitempty"`
	Pid    int      `cbor:"3,keyasint,omitempty"` // owner of a LockPosix
	FD     int      `cbor:"4,keyasint,omitempty"` // a descriptor of Pid through which to take it
	Handle uint32   `cbor:"5,keyasint,omitempty"` // owner of the others
	Start  int64    `cbor:"6,keyasint,omitempty"` // bytes
	Len    int64    `cbor:"7,keyasint,omitempty"` // 0: to the end of the file
}
