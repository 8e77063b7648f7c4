package capsule

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// order is what a new child of pid 1 is to become. It comes as one message of
// one byte on FDExecChild with descriptors: a memfd with the order as JSON, the
// write end of a pipe for answers, and the descriptors Std speaks of.
type order struct {
	Argv  []string `json:"argv"`
	Env   []string `json:"env"`
	Dir   string   `json:"dir"`
	Umask int      `json:"umask"`
	// Terminal is the path of its controlling terminal, "" for none.
	Terminal string `json:"terminal,omitempty"`
	// Std says for each of 0, 1 and 2 which descriptor of the message it
	// becomes: an index from 0 after the first two, or -1 for the terminal, or
	// for /dev/null where there is none.
	Std [3]int `json:"std"`
	// Listen is how many descriptors of the message, from the first one on that
	// Std can name, are sockets handed over as systemd does: sd_listen_fds(3).
	Listen int `json:"listen,omitempty"`
	// Main: pids after this process's go on from its own.
	Main bool `json:"main,omitempty"`
}

// answer is a line on the answer pipe: first the pid, seen inside, then perhaps
// why the command could not be executed. The pipe's end without that is success.
type answer struct {
	Pid   int    `json:"pid,omitempty"`
	Error string `json:"error,omitempty"`
	Code  int    `json:"code,omitempty"` // exit status a shell would have: 126 or 127
}

// ExecError says that a command could not be executed inside a capsule.
type ExecError struct {
	Code int // what a shell would exit with: 127 not found, 126 not executable
	Text string
}

func (e *ExecError) Error() string { return e.Text }

// ExecMain is the hidden command "capsule-exec": a child of pid 1, with pid 1's
// capabilities, that becomes the app or a command beside it, with none.
func ExecMain() {
	runtime.LockOSThread() // capabilities belong to a thread, and this one will exec
	answers, err := takeOrder()
	var e *ExecError
	code := 126
	if errors.As(err, &e) {
		code = e.Code
	}
	if answers >= 0 {
		say(answers, answer{Error: err.Error(), Code: code})
	}
	os.Exit(code)
}

func say(fd int, a answer) {
	b, _ := json.Marshal(a)
	unix.Write(fd, append(b, '\n')) //nolint:errcheck // nobody else to tell
}

// takeOrder returns only if the order could not be carried out.
func takeOrder() (answers int, err error) {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(8*4))
	n, oobn, _, _, err := unix.Recvmsg(0, b[:], oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil || n != 1 {
		return -1, fmt.Errorf("taking an order: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("taking an order's descriptors: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) < 2 {
		return -1, fmt.Errorf("taking an order's descriptors: %w", err)
	}
	for i, fd := range fds { // away from 0, 1 and 2
		if fds[i], err = high(fd); err != nil {
			return -1, err
		}
		unix.Close(fd)
	}
	answers = fds[1]
	say(answers, answer{Pid: os.Getpid()})
	o, err := readOrder(fds[0])
	if err != nil {
		return answers, err
	}
	return answers, o.carryOut(fds[2:])
}

// heedTerminal makes the app that is about to run here heed what is typed at its terminal, and the terminal's end,
// though who started it may ignore them: a shell's job in the background does, and nohup.
func heedTerminal() error {
	for _, signal := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		if err := kernel.DefaultAction(signal); err != nil {
			return err
		}
	}
	return nil
}

func readOrder(fd int) (*order, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("reading an order: %w", err)
	}
	buf := make([]byte, st.Size)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return nil, fmt.Errorf("reading an order: %w", err)
	}
	o := &order{}
	if err := json.Unmarshal(buf[:n], o); err != nil {
		return nil, fmt.Errorf("reading an order: %w", err)
	}
	if len(o.Argv) == 0 {
		return nil, errors.New("reading an order: no command in it")
	}
	return o, nil
}

// carryOut becomes the ordered command.
func (o *order) carryOut(fds []int) error {
	last := lastCap()
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("starting a session: %w", err)
	}
	terminal := -1
	if o.Terminal != "" {
		var err error
		if terminal, err = openHigh(o.Terminal, unix.O_RDWR|unix.O_NOCTTY); err != nil {
			return err
		}
		if err := unix.IoctlSetInt(terminal, unix.TIOCSCTTY, 0); err != nil {
			return fmt.Errorf("taking the terminal %s: %w", o.Terminal, err)
		}
		if err := heedTerminal(); err != nil {
			return err
		}
	}
	for n, i := range o.Std {
		src := terminal
		if i >= 0 {
			if i >= len(fds) {
				return fmt.Errorf("descriptor %d is missing from the order", n)
			}
			src = fds[i]
		}
		if src < 0 {
			var err error
			if src, err = openHigh("/dev/null", unix.O_RDWR); err != nil {
				return err
			}
		}
		if err := unix.Dup3(src, n, 0); err != nil {
			return fmt.Errorf("placing descriptor %d: %w", n, err)
		}
	}
	if err := unix.Chdir(o.Dir); err != nil {
		hint := ""
		if o.Dir == "/tmp" || strings.HasPrefix(o.Dir, "/tmp/") {
			hint = " (/tmp is private in a capsule: start the app from another folder)"
		}
		return fmt.Errorf("entering the folder %s: %w%s", o.Dir, err, hint)
	}
	file, err := findCommand(o.Argv[0], lookup(o.Env, "PATH"))
	if err != nil {
		return err
	}
	unix.Umask(o.Umask)
	if o.Main {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return fmt.Errorf("setting the next pid: %w", err)
		}
	}
	if err := dropCaps(last); err != nil {
		return err
	}
	if o.Listen > 0 {
		if err := o.handOver(fds); err != nil {
			return err
		}
	}
	err = syscall.Exec(file, o.Argv, o.Env)
	if err == unix.ENOEXEC { // a script without #!, as execvp(3) has it
		err = syscall.Exec("/bin/sh", append([]string{"sh", file}, o.Argv[1:]...), o.Env)
	}
	code := 126
	if errors.Is(err, os.ErrNotExist) {
		code = 127
	}
	return &ExecError{code, fmt.Sprintf("%s: %v", o.Argv[0], err)}
}

// handOver places sockets from descriptor 3 on; nothing but exec may follow.
func (o *order) handOver(fds []int) error {
	if o.Listen > len(fds) {
		return errors.New("a socket is missing from the order")
	}
	o.Env = append(o.Env, "LISTEN_FDS="+strconv.Itoa(o.Listen), "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	if err := ownFiles(); err != nil {
		return err
	}
	for i, fd := range fds[:o.Listen] {
		if err := unix.Dup3(fd, 3+i, 0); err != nil {
			return fmt.Errorf("placing descriptor %d: %w", 3+i, err)
		}
	}
	return nil
}

// findCommand finds a command as a shell would, with the app's PATH.
func findCommand(name, search string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	if search == "" {
		search = "/usr/local/bin:/usr/bin:/bin"
	}
	var found error
	for _, dir := range strings.Split(search, ":") {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + name
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if err := unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS); err != nil {
			found = err
			continue
		}
		return file, nil
	}
	if found != nil {
		return "", &ExecError{126, fmt.Sprintf("%s: %v", name, found)}
	}
	return "", &ExecError{127, fmt.Sprintf("%s: command not found", name)}
}
