// Package xservers starts X servers for tests: those that users have as their
// desktop's, of different vendors, so that nothing depends on the numbers of one.
//
// A server is on a free display, lives in memory, and ends with its test.
package xservers

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is one that runs.
type Server struct {
	Display string // as DISPLAY has it
	Process *os.Process
	Ended   <-chan struct{} // closed when it has
}

// Socket is where its clients connect.
func (s *Server) Socket() string { return "/tmp/.X11-unix/X" + s.Number() }

// Number is its display's.
func (s *Server) Number() string { return s.Display[1:] }

// endWithin is how long a server may take to end.
const endWithin = 10 * time.Second

// End ends it before its test does, also one that has been stopped.
func (s *Server) End() {
	_ = s.Process.Signal(syscall.SIGTERM)
	_ = s.Process.Signal(syscall.SIGCONT)
	select {
	case <-s.Ended:
	case <-time.After(endWithin):
		_ = s.Process.Kill()
		<-s.Ended
	}
}

// Xvfb and Xvnc start a server with a screen of this size, as in "1280x800", and of
// 24 bits. Xvfb takes a depth behind the size, too.
func Xvfb(t testing.TB, size string, args ...string) *Server {
	t.Helper()
	if strings.Count(size, "x") == 1 {
		size += "x24"
	}
	return Start(t, "Xvfb", append([]string{"-screen", "0", size, "-noreset"}, args...)...)
}

func Xvnc(t testing.TB, size string, args ...string) *Server {
	t.Helper()
	return Start(t, "Xtigervnc", append([]string{"-geometry", size, "-depth", "24", "-SecurityTypes", "None", "-rfbport", "-1",
		"-rfbunixpath", filepath.Join(t.TempDir(), "rfb")}, args...)...)
}

// Start runs a server. The test is skipped where it is not installed. Who wants no
// stranger to connect says so by -auth.
func Start(t testing.TB, program string, args ...string) *Server {
	t.Helper()
	path := Need(t, program)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	args = append(args, "-displayfd", "3", "-nolisten", "tcp")
	if !strings.Contains(strings.Join(args, " "), "-auth ") {
		args = append(args, "-ac")
	}
	cmd := exec.Command(path, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = cmd.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	s := over(t, cmd)
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		<-s.Ended
		t.Fatalf("%s did not start: %s", program, said.String())
	}
	s.Display = ":" + strings.TrimSpace(line)
	return s
}

// over has a process end with the test.
func over(t testing.TB, cmd *exec.Cmd) *Server {
	ended := make(chan struct{})
	s := &Server{Process: cmd.Process, Ended: ended}
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(s.End)
	return s
}

// Need finds a program, or skips the test.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	return path
}
