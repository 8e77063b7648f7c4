package capsule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/paths"
	"hither/engine/terminal"
)

// Capsule is a running capsule of this host, seen from outside.
type Capsule struct {
	ID  string
	dir string
	// runner is the connection to the keeper that this process started; it
	// keeps the keeper until Wait or Close.
	runner *net.UnixConn
	first  State

	// Notice, where set, is called by Wait and Notices with what the keeper has to
	// say to a person.
	Notice func(text string)
}

// Notices is for who started an app and does not Wait: it returns when the app
// is over, or after Close.
func (c *Capsule) Notices() {
	conn := c.runner
	for conn != nil {
		r, err := readResponse(conn)
		if err != nil || r.Notice == "" {
			return
		}
		c.Notice(r.Notice)
	}
}

// Start makes a capsule and starts the app in it. Of stdio those that are
// terminals, or nil, become the capsule's own terminal (or /dev/null, where
// the spec wants none); others are passed straight to the app. Where the
// capsule has a terminal (Spec().TTY), Attach to it next. An *ExecError says
// that the command could not be executed.
func Start(ctx context.Context, s Spec, stdio [3]*os.File) (*Capsule, error) {
	pass, std := prepare(&s, stdio)
	if err := s.check(); err != nil {
		return nil, err
	}
	dir, err := paths.Capsule(s.ID)
	if err != nil {
		return nil, err
	}
	conn, err := startKeeper(dir, nil, pass)
	if err != nil {
		os.RemoveAll(dir) //nolint:errcheck // nothing is in it
		return nil, err
	}
	c := &Capsule{ID: s.ID, dir: dir, runner: conn}
	b, err := json.Marshal(handshake{Spec: s, Std: std})
	if err == nil {
		stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // a socket
		defer stop()
		_, err = conn.Write(append(b, '\n'))
	}
	var r response
	if err == nil {
		r, err = readResponse(conn)
	}
	if err == nil {
		err = r.err()
	} else if ctx.Err() != nil {
		c.kill()
		err = ctx.Err()
	}
	if err == nil && r.State == nil {
		err = errors.New("the keeper gave no state")
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("starting %s: %w", s.Name, err)
	}
	c.first = *r.State
	return c, nil
}

// prepare fills in what the spec leaves open and says which files go along.
func prepare(s *Spec, stdio [3]*os.File) (pass []*os.File, std [3]int) {
	if s.ID == "" {
		s.ID = NewID()
	}
	if s.Name == "" {
		s.Name = NameFor(s.Argv)
	}
	if s.Home == "" {
		s.Home = lookup(s.Env, "HOME")
	}
	if s.Dir == "" {
		s.Dir = "/"
	}
	s.Env = insideEnv(s.Env, os.Getuid(), s.NoDisplay)
	s.TTY = s.TTY || s.Detached
	for i, f := range stdio {
		std[i] = -1
		if f == nil || s.Detached {
			continue
		}
		if mode, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			s.TTY = true
			if s.Termios == nil {
				s.Termios = mode
			}
			if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && s.Winsize.Row == 0 {
				s.Winsize = *size
			}
			continue
		}
		std[i] = len(pass)
		pass = append(pass, f)
	}
	if s.TTY && s.Winsize.Row == 0 {
		s.Winsize = Winsize{Row: 24, Col: 80}
	}
	return pass, std
}

// startKeeper starts a keeper that outlives this process.
func startKeeper(dir string, args []string, pass []*os.File) (*net.UnixConn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a socket to the keeper: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "keeper"), os.NewFile(uintptr(pair[1]), "keeper")
	defer ours.Close()
	defer theirs.Close()
	log, err := os.OpenFile(filepath.Join(dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the keeper's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{"keeper"}, args...)...)
	cmd.Args[0] = "hither"
	cmd.Dir = "/"
	cmd.Stderr = log
	cmd.ExtraFiles = append([]*os.File{theirs}, pass...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the keeper: %w", err)
	}
	go cmd.Wait() //nolint:errcheck // reaped if it ends before us
	c, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("speaking to the keeper: %w", err)
	}
	return c.(*net.UnixConn), nil
}

func readResponse(c *net.UnixConn) (response, error) {
	var r response
	line, err := readLine(c)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return r, ErrNoKeeper
		}
		return r, err
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("reading the keeper's answer: %w", err)
	}
	return r, nil
}

// Open finds a running capsule by its id.
func Open(id string) (*Capsule, error) {
	if !paths.ValidID(id) {
		return nil, fmt.Errorf("capsule id %q is not valid", id)
	}
	all, err := paths.Capsules()
	if err != nil {
		return nil, err
	}
	c := &Capsule{ID: id, dir: filepath.Join(all, id)}
	if c.first, err = readState(c.dir); err != nil {
		return nil, err
	}
	if !c.first.Init.Alive() && !c.first.Keeper.Alive() {
		return nil, fmt.Errorf("capsule %s: %w", id, ErrEnded)
	}
	return c, nil
}

// List finds all running capsules in a folder (paths.Capsules), oldest first,
// and clears away what dead ones left.
func List(dir string) ([]*Capsule, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listing capsules: %w", err)
	}
	var all []*Capsule
	for _, e := range entries {
		c := &Capsule{ID: e.Name(), dir: filepath.Join(dir, e.Name())}
		if c.first, err = readState(c.dir); err != nil {
			continue // being made, or being cleared away
		}
		if !c.first.Init.Alive() && !c.first.Keeper.Alive() {
			c.clear()
			continue
		}
		all = append(all, c)
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i], all[j]
		return a.first.Since < b.first.Since || a.first.Since == b.first.Since && a.ID < b.ID
	})
	return all, nil
}

// Making are the folders of capsules in a folder that are being made: they have no state file yet.
func Making(dir string) []string {
	all, _ := filepath.Glob(filepath.Join(dir, "*"))
	return slices.DeleteFunc(all, func(c string) bool {
		_, err := os.Lstat(filepath.Join(c, stateFile))
		return err == nil
	})
}

// clear removes the folder of a capsule that is no more, unless a keeper has it.
func (c *Capsule) clear() {
	k := keeper{dir: c.dir}
	if k.takeLock(0) == nil {
		os.RemoveAll(c.dir) //nolint:errcheck // only litter
		k.lock.Close()
	}
}

// kill ends pid 1 if it is known.
func (c *Capsule) kill() {
	if st, err := readState(c.dir); err == nil {
		if fd, err := st.Init.pidfd(); err == nil {
			unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) //nolint:errcheck // it may have ended
			unix.Close(fd)
		}
	}
}

// State is what is known of the capsule, from its state file.
func (c *Capsule) State() (State, error) { return readState(c.dir) }

// Spec is what the capsule was made from.
func (c *Capsule) Spec() Spec { return c.first.Spec }

// InitPid is the capsule's pid 1 as the host sees it.
func (c *Capsule) InitPid() int { return c.first.Init.Pid }

// Dir is the capsule's folder of this host.
func (c *Capsule) Dir() string { return c.dir }

// Processes are the capsule's processes: pid inside -> pid on the host. Pid 1 is
// among them.
func (c *Capsule) Processes() (map[int]int, error) {
	m, err := processes(c.InitPid())
	if err != nil {
		return nil, fmt.Errorf("capsule %s: %w", c.ID, err)
	}
	return m, nil
}

// Close lets the keeper go when the app has ended; the app runs on.
func (c *Capsule) Close() {
	if c.runner != nil {
		c.runner.Close()
		c.runner = nil
	}
}

// Outcome is how a capsule's life on this host ended, for who waited.
type Outcome struct {
	Status int    // of the app's first process: 128+n for signal n
	Moved  string // the host it went to, "" if it ended here
}

// Wait returns when the app's first process has ended, or the app has moved
// away. Should the keeper die meanwhile, it is replaced.
func (c *Capsule) Wait(ctx context.Context) (Outcome, error) {
	defer c.Close()
	for {
		var err error
		if c.runner == nil {
			c.runner, _, err = c.ask(&request{Op: "wait"}, nil)
		}
		if err == nil {
			conn := c.runner
			stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) }) //nolint:errcheck // a socket
			r, err2 := readResponse(conn)
			for err2 == nil && r.Notice != "" {
				if c.Notice != nil {
					c.Notice(r.Notice)
				}
				r, err2 = readResponse(conn)
			}
			err = err2
			stop()
			if err == nil {
				if r.Status == nil {
					return Outcome{Moved: r.Moved}, nil
				}
				return Outcome{Status: *r.Status, Moved: r.Moved}, nil
			}
		}
		c.Close()
		if ctx.Err() != nil {
			return Outcome{}, ctx.Err()
		}
		if err := c.AdoptKeeper(ctx); err != nil && !errors.Is(err, ErrKept) {
			return Outcome{}, fmt.Errorf("waiting for %s: %w", c.first.Spec.Name, err)
		}
	}
}

// ask opens a conversation with the keeper and returns it after the first answer.
func (c *Capsule) ask(r *request, files []*os.File) (*net.UnixConn, response, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, response{}, err
	}
	resp, err := converse(conn, r, files)
	if err != nil {
		conn.Close()
		return nil, resp, err
	}
	return conn, resp, nil
}

func converse(conn *net.UnixConn, r *request, files []*os.File) (response, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return response{}, err
	}
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	b = append(b, '\n')
	n, _, err := conn.WriteMsgUnix(b, rights, nil)
	if err == nil && n < len(b) {
		_, err = conn.Write(b[n:])
	}
	if err != nil {
		return response{}, fmt.Errorf("asking the keeper: %w", err)
	}
	resp, err := readResponse(conn)
	if err != nil {
		return resp, err
	}
	return resp, resp.err()
}

// dial connects to the keeper's socket, see listen.
func (c *Capsule) dial() (*net.UnixConn, error) {
	dir, err := os.Open(c.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrEnded
	}
	if err != nil {
		return nil, fmt.Errorf("opening the capsule's folder: %w", err)
	}
	defer dir.Close()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: fdPath(int(dir.Fd())) + "/" + socketFile, Net: "unix"})
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		if !c.first.Init.Alive() {
			return nil, ErrEnded
		}
		return nil, ErrNoKeeper
	}
	if err != nil {
		return nil, fmt.Errorf("speaking to the keeper: %w", err)
	}
	return conn, nil
}

// Attach opens the capsule's terminal: package terminal's Client speaks over
// the connection.
func (c *Capsule) Attach(hello terminal.Hello) (net.Conn, error) {
	conn, _, err := c.ask(&request{Op: "attach", Hello: hello}, nil)
	if err != nil {
		return nil, fmt.Errorf("attaching to %s: %w", c.first.Spec.Name, err)
	}
	return conn, nil
}
