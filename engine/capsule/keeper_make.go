package capsule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/paths"
)

// begin makes a new capsule and starts the app in it.
func (k *keeper) begin(parent *net.UnixConn) error {
	var h handshake
	line, err := readLine(parent)
	if err != nil {
		return fmt.Errorf("reading what to make: %w", err)
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return fmt.Errorf("reading what to make: %w", err)
	}
	var std []*os.File
	for i, n := 0, 4; i < 3; i++ {
		if h.Std[i] >= 0 {
			unix.CloseOnExec(n)
			std = append(std, os.NewFile(uintptr(n), "stdio"))
			n++
		}
	}
	if k.dir, err = paths.Capsule(h.Spec.ID); err != nil {
		return err
	}
	if err := k.takeLock(0); err != nil {
		return err
	}
	k.state = State{Spec: h.Spec, Phase: Running, Since: time.Now().Unix(), Desktop: desktopOf(os.Environ())}
	if h.Spec.Restore {
		k.state.Phase = Waiting
	}
	if err := k.make(); err != nil {
		k.abandon()
		return err
	}
	if !h.Spec.Restore {
		if err := k.startMain(h.Std, std); err != nil {
			k.abandon()
			return err
		}
	}
	for _, f := range std {
		f.Close()
	}
	return nil
}

// make runs the stage and takes hold of pid 1.
func (k *keeper) make() error {
	pid, made, err := runStage(&k.state.Spec)
	if err != nil {
		return err
	}
	k.state.Net, k.state.NoNet = made.Net, made.NoNet
	return k.hold(pid)
}

// runStage makes the namespaces and everything in them; it returns pid 1, a
// child of this process.
func runStage(s *Spec) (pid int, made report, err error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return 0, made, fmt.Errorf("opening hither's own binary: %w", err)
	}
	defer self.Close()
	spec, err := jsonMemfd("spec", s)
	if err != nil {
		return 0, made, err
	}
	defer spec.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return 0, made, fmt.Errorf("making a pipe: %w", err)
	}
	defer r.Close()
	cmd := stageCommand(spec, w, self)
	cmd.Stderr = os.Stderr
	err = cmd.Start()
	w.Close()
	if err != nil {
		return 0, made, explainNamespaces(err)
	}
	r.SetReadDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // a pipe
	dec := json.NewDecoder(r)
	for err == nil && made.Error == "" {
		err = dec.Decode(&made)
	}
	switch {
	case made.Error != "":
		err = errors.New(made.Error)
	case err == io.EOF && !made.Made:
		err = errors.New("making the capsule: its first process died")
	case err == io.EOF:
		return cmd.Process.Pid, made, nil
	default:
		err = fmt.Errorf("waiting for the capsule to be made: %w", err)
	}
	cmd.Process.Kill() //nolint:errcheck // it may have ended
	cmd.Wait()         //nolint:errcheck // why it failed is known
	return 0, made, err
}

// jsonMemfd is a file in memory with v in it.
func jsonMemfd(name string, v any) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := json.NewEncoder(f).Encode(v); err != nil {
		f.Close()
		return nil, fmt.Errorf("writing a file in memory: %w", err)
	}
	return f, nil
}

// abandon undoes a capsule that could not be made or started.
func (k *keeper) abandon() {
	if k.pidfd >= 0 {
		unix.PidfdSendSignal(k.pidfd, unix.SIGKILL, nil, 0) //nolint:errcheck // it may have ended
		<-k.dead
	}
	k.clear()
}
