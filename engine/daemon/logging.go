package daemon

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/paths"
)

// The log is for people: one line an event, with the time before it unless the
// journal of systemd notes that anyway. What says the same again and again is said
// once, with how often. In a file it takes no more than two times maxLog.

const (
	maxLog = 1 << 20
	// The same is said again after this time.
	sameAgain = time.Hour
)

// StartLog has package log write to stderr in this way.
func StartLog() {
	w := &logWriter{out: os.Stderr, stamped: toJournal(os.Stderr, os.Getenv("JOURNAL_STREAM"))}
	if name, err := paths.Log(); err == nil && sameFile(os.Stderr, name) {
		w.name = name
		if info, err := os.Stderr.Stat(); err == nil {
			w.size = info.Size()
		}
	}
	log.SetFlags(0)
	log.SetOutput(w)
}

// toJournal tells whether f is the stream to the journal that systemd speaks of, see
// systemd.exec(5).
func toJournal(f *os.File, stream string) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == strconv.FormatUint(st.Dev, 10)+":"+strconv.FormatUint(st.Ino, 10)
}

func sameFile(f *os.File, name string) bool {
	a, err := f.Stat()
	b, err2 := os.Stat(name)
	return err == nil && err2 == nil && os.SameFile(a, b)
}

type logWriter struct {
	mu      sync.Mutex
	out     *os.File
	stamped bool   // who reads it knows the time
	name    string // of the file that is to stay small; "": it is another's
	size    int64

	last  string
	when  time.Time // that was said
	times int       // that it was not
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := strings.TrimRight(string(p), "\n")
	now := time.Now()
	if text == w.last && now.Sub(w.when) < sameAgain {
		w.times++
		return len(p), nil
	}
	if w.times > 0 {
		w.line(now, fmt.Sprintf("(%d times more: %s)", w.times, w.last))
	}
	w.last, w.when, w.times = text, now, 0
	return len(p), w.line(now, text)
}

func (w *logWriter) line(now time.Time, text string) error {
	// One event is one line, so that nobody can forge another.
	text = strings.ReplaceAll(text, "\n", "\n\t") + "\n"
	if !w.stamped {
		text = now.Format("2006-01-02 15:04:05 ") + text
	}
	if w.name != "" && w.size+int64(len(text)) > maxLog {
		w.turn()
	}
	w.size += int64(len(text))
	_, err := w.out.WriteString(text)
	return err
}

// turn begins a new file; the old one stays until the next turn. What does not go
// through package log, such as a panic, goes to the new one, too.
func (w *logWriter) turn() {
	if os.Rename(w.name, w.name+".old") != nil {
		return
	}
	f, err := os.OpenFile(w.name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	old, err := w.out.Stat()
	if err != nil {
		return
	}
	w.size = 0
	for _, std := range []*os.File{os.Stdout, os.Stderr, w.out} {
		if info, err := std.Stat(); err == nil && os.SameFile(info, old) {
			unix.Dup3(int(f.Fd()), int(std.Fd()), 0) //nolint:errcheck // then it goes on in the old one
		}
	}
}
