package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func logTo(t *testing.T) (*logWriter, func() string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "daemon.log")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &logWriter{out: f, name: name}, func() string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func TestLogRepeats(t *testing.T) {
	w, read := logTo(t)
	w.stamped = true
	for range 5 {
		fmt.Fprintln(w, "the same")
	}
	fmt.Fprintln(w, "two\nlines")
	fmt.Fprintln(w, "the same")
	if got := read(); got != "the same\n(4 times more: the same)\ntwo\n\tlines\nthe same\n" {
		t.Errorf("%q", got)
	}
}

func TestLogStaysSmall(t *testing.T) {
	w, read := logTo(t)
	line := strings.Repeat("x", 1000)
	for i := range 3 * maxLog / 1000 {
		fmt.Fprintln(w, i, line)
	}
	fmt.Fprintln(w, "the last")
	got := read()
	if old, err := os.Stat(w.name + ".old"); err != nil || old.Size() > maxLog || len(got) > maxLog || !strings.HasSuffix(got, " the last\n") {
		t.Errorf("%d bytes, %v, %v, ends with %q", len(got), old, err, got[max(0, len(got)-30):])
	}
	if left, _ := filepath.Glob(w.name + "*"); len(left) != 2 {
		t.Errorf("%q", left)
	}
	if len(got) < 20 || got[4] != '-' || got[13] != ':' {
		t.Errorf("no time in %.30q", got)
	}
}

func TestToJournal(t *testing.T) {
	w, _ := logTo(t)
	info, err := w.out.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if !toJournal(w.out, fmt.Sprintf("%d:%d", st.Dev, st.Ino)) || toJournal(w.out, "") || toJournal(w.out, "1:2") {
		t.Error("the journal is not told from a file")
	}
	if !sameFile(w.out, w.name) || sameFile(w.out, os.DevNull) {
		t.Error("files are not told apart")
	}
}
