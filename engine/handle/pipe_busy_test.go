package handle

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A user who has many pipes gets small ones, of which none can be made larger.
func TestPipesOfABusyUser(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may have as many as it likes")
	}
	var full [2]int
	if err := unix.Pipe2(full[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(full[0])
	defer unix.Close(full[1])
	if _, err := unix.Write(full[1], []byte("word")); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) //nolint:errcheck // as it was
	const size = 65536
	for n := 0; ; n++ {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil || n > 4096 {
			t.Skipf("no limit met with %d pipes: %v", n, err)
		}
		defer unix.Close(p[0])
		defer unix.Close(p[1])
		if _, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, size); errors.Is(err, unix.EPERM) {
			break
		}
	}
	content, _, err := peekPipe(full[0], size, false)
	if err != nil || string(content) != "word" {
		t.Errorf("copied %q, %v", content, err)
	}
	var fresh [2]int
	if err := unix.Pipe2(fresh[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fresh[0])
	defer unix.Close(fresh[1])
	if err := fillPipe(fresh[1], &pipeRecord{Size: size, Content: []byte("word")}); err != nil {
		t.Error(err)
	}
	if err := fillPipe(fresh[1], &pipeRecord{Size: size, Content: make([]byte, size)}); err == nil || !strings.Contains(err.Error(), "so many pipes") {
		t.Errorf("of what finds no room it is said: %v", err)
	}
}
