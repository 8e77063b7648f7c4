package main

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// benchWorkCommand is the hidden half of `bench`: what runs on the hosts and in
// the capsules while it measures.
const benchWorkCommand = "bench-work"

func benchWorkMain() int {
	args := os.Args[2:]
	if len(args) == 0 {
		args = []string{"nothing"}
	}
	work := map[string]func([]string) error{
		"tree": workTree, "hold": workHold, "live": workLive, "calls": workCalls, "starts": workStarts,
		"rest": workRest, "witness": workWitness, "take": workTake, "give": workGive,
		"desk": workDesk, "paint": workPaint,
	}[args[0]]
	if work == nil {
		fmt.Fprintf(os.Stderr, "hither-lab: %s: no such work\n", args[0])
		return 2
	}
	if err := work(args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "hither-lab: %s: %v\n", args[0], err)
		return 1
	}
	return 0
}

// beats sends a datagram to the witness every millisecond, for ever. The first
// byte tells who beats.
func beats(who byte, to string) error {
	addr, err := net.ResolveUDPAddr("udp4", to)
	if err != nil {
		return err
	}
	// Not package net: one thread, one socket, nothing else.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	peer := &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}
	for {
		_ = unix.Sendto(fd, []byte{who}, 0, peer) // the witness notices what is missing
		doze(time.Millisecond)
	}
}

func doze(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil)
}

// workTree is a tree of processes with four or more threads each: tree COUNT WITNESS.
// The first process and the last one beat.
func workTree(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("tree COUNT WITNESS")
	}
	debug.SetGCPercent(-1)
	count, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	leaf := len(args) > 2
	if !leaf {
		for i := 2; i <= count; i++ {
			cmd := exec.Command("/proc/self/exe")
			cmd.Args = []string{"leaf", benchWorkCommand, "tree", strconv.Itoa(count), args[1], strconv.Itoa(i)}
			if err := cmd.Start(); err != nil {
				return err
			}
		}
	}
	for threads() < 4 {
		go func() {
			runtime.LockOSThread()
			for {
				doze(50 * time.Millisecond)
			}
		}()
		doze(2 * time.Millisecond)
		runtime.Gosched()
	}
	if !leaf || args[2] == args[0] {
		who := byte(1)
		if leaf {
			who = 2
		}
		return beats(who, args[1])
	}
	for {
		doze(50 * time.Millisecond)
	}
}

func threads() int {
	tids, _ := filepath.Glob("/proc/self/task/*")
	return len(tids)
}

// workHold keeps so much incompressible memory, and beats: hold BYTES WITNESS.
func workHold(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("hold BYTES WITNESS")
	}
	debug.SetGCPercent(-1)
	size, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	memory, err := randomMemory(size)
	if err != nil {
		return err
	}
	err = beats(1, args[1])
	runtime.KeepAlive(memory)
	return err
}

// workLive keeps so much incompressible memory, writes to so much of it in a second,
// a page at a time, and beats: live BYTES BYTES-A-SECOND WITNESS. It ends if a page is
// not as it was written.
func workLive(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("live BYTES BYTES-A-SECOND WITNESS")
	}
	debug.SetGCPercent(-1)
	size, err1 := strconv.Atoi(args[0])
	rate, err2 := strconv.Atoi(args[1])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	memory, err := randomMemory(size)
	if err != nil {
		return err
	}
	const page = 4096
	pages := size / page
	for i := range pages {
		binary.LittleEndian.PutUint64(memory[i*page:], uint64(i))
	}
	go beats(1, args[2]) //nolint:errcheck // the witness hears nothing then
	last := time.Now()
	for n, owed := 0, 0.0; ; {
		doze(time.Millisecond)
		now := time.Now()
		// What was missed while it stood still is not made up for.
		owed += min(now.Sub(last).Seconds(), 0.01) * float64(rate) / page
		last = now
		for ; owed >= 1; owed-- {
			at := memory[n%pages*page:]
			if have := binary.LittleEndian.Uint64(at); have != uint64(n) {
				return fmt.Errorf("page %d is %d instead of %d", n%pages, have, n)
			}
			binary.LittleEndian.PutUint64(at, uint64(n+pages))
			n++
		}
	}
}

func randomMemory(size int) ([]byte, error) {
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, err
	}
	_, err = mathrand.NewChaCha8(seed).Read(memory)
	return memory, err
}

// workStarts times commands from start to end, one after the other in turns, and
// prints the microseconds of each: starts RUNS COMMAND [, COMMAND]...
func workStarts(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("starts RUNS COMMAND [, COMMAND]")
	}
	runs, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	commands := [][]string{nil}
	for _, a := range args[1:] {
		if a == "," {
			commands = append(commands, nil)
			continue
		}
		last := &commands[len(commands)-1]
		*last = append(*last, a)
	}
	took := make([][]float64, len(commands))
	for run := range runs + 1 { // the first one warms up
		for i, c := range commands {
			cmd := exec.Command(c[0], c[1:]...)
			begun := time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", strings.Join(c, " "), err, out)
			}
			if run > 0 {
				took[i] = append(took[i], float64(time.Since(begun).Microseconds()))
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

// atRest is what a capsule costs a host while nothing happens.
type atRest struct {
	KeeperKB, InitKB   int     // proportional set size
	KeeperRSS, InitRSS int     // KiB
	KeeperWakes        float64 // per second, of all its threads
	InitWakes          float64
}

// workRest looks at the keeper and at pid 1 of the only capsule of this host:
// rest SECONDS.
func workRest(args []string) error {
	seconds := 5.0
	if len(args) > 0 {
		var err error
		if seconds, err = strconv.ParseFloat(args[0], 64); err != nil {
			return err
		}
	}
	keeper, first, err := findCapsule()
	if err != nil {
		return err
	}
	var r atRest
	if r.KeeperKB, r.KeeperRSS, err = setSizes(keeper); err != nil {
		return err
	}
	if r.InitKB, r.InitRSS, err = setSizes(first); err != nil {
		return err
	}
	k, i := switches(keeper), switches(first)
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	r.KeeperWakes = float64(switches(keeper)-k) / seconds
	r.InitWakes = float64(switches(first)-i) / seconds
	return json.NewEncoder(os.Stdout).Encode(r)
}

// findCapsule reads the states that keepers write.
func findCapsule() (keeper, first int, err error) {
	states, _ := filepath.Glob(filepath.Join(hitherDir(os.Getenv("XDG_RUNTIME_DIR")), "capsules/*/state.json"))
	if len(states) != 1 {
		return 0, 0, fmt.Errorf("there are %d capsules on this host instead of one", len(states))
	}
	text, err := os.ReadFile(states[0])
	if err != nil {
		return 0, 0, err
	}
	var state struct{ Keeper, Init struct{ Pid int } }
	if err := json.Unmarshal(text, &state); err != nil {
		return 0, 0, err
	}
	if state.Keeper.Pid == 0 || state.Init.Pid == 0 {
		return 0, 0, fmt.Errorf("%s names no keeper or no pid 1", states[0])
	}
	return state.Keeper.Pid, state.Init.Pid, nil
}

func setSizes(pid int) (pss, rss int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, err
	}
	return field(text, "Pss:"), field(text, "Rss:"), nil
}

func switches(pid int) int {
	sum := 0
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, t := range tasks {
		if text, err := os.ReadFile(t); err == nil {
			sum += field(text, "voluntary_ctxt_switches:")
		}
	}
	return sum
}

func field(text []byte, name string) int {
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			n, _ := strconv.Atoi(words[1])
			return n
		}
	}
	return 0
}

// workWitness hears the beats at an address and tells, for each line it reads, the
// longest silence of each sender since the line before.
func workWitness(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("witness ADDRESS")
	}
	signal.Ignore(syscall.SIGPIPE)
	addr, err := net.ResolveUDPAddr("udp4", args[0])
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp4", addr)
	if err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	// The kernel's clock at arrival: the witness itself may be late.
	_ = raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
	})
	if err != nil {
		return err
	}
	type beat struct {
		who byte
		at  time.Time
	}
	heard, asked := make(chan beat, 1024), make(chan bool)
	go func() {
		buf, oob := make([]byte, 64), make([]byte, 256)
		for {
			n, m, _, _, err := conn.ReadMsgUDP(buf, oob)
			if err != nil {
				return
			}
			if n > 0 {
				heard <- beat{buf[0], stamp(oob[:m])}
			}
		}
	}()
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			asked <- true
		}
		close(asked)
	}()
	fmt.Println("ready")
	last, silence := map[byte]time.Time{}, map[byte]float64{}
	for {
		select {
		case b := <-heard:
			if before, ok := last[b.who]; ok {
				silence[b.who] = max(silence[b.who], b.at.Sub(before).Seconds()*1000)
			}
			last[b.who] = b.at
		case _, more := <-asked:
			if !more {
				return nil
			}
			all := []float64{}
			for _, ms := range silence {
				all = append(all, ms)
			}
			if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
				return err
			}
			last, silence = map[byte]time.Time{}, map[byte]float64{}
		}
	}
}

// stamp is when the kernel took a datagram in.
func stamp(oob []byte) time.Time {
	if messages, err := unix.ParseSocketControlMessage(oob); err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
				sec := int64(leUint64(m.Data))
				return time.Unix(sec, int64(leUint64(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

func leUint64(b []byte) uint64 {
	v := uint64(0)
	for i := range 8 {
		v |= uint64(b[i]) << (8 * i)
	}
	return v
}
