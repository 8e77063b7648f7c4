//go:build linux && amd64

package handle

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// fullTerminal makes a raw terminal, fills one direction with pieces of these sizes, and returns what it took.
func fullTerminal(t *testing.T, output bool, size func() int) (terminal, []byte) {
	t.Helper()
	tt := emptyTerminal(t)
	to, from := tt.master, tt.slave
	if output {
		to, from = from, to
	}
	var put []byte
	for {
		part := make([]byte, size())
		for i := range part {
			part[i] = byte(rand.Uint32())
		}
		n, err := writeSoon(to, part)
		if err == unix.EAGAIN {
			if n, err := unix.IoctlGetInt(from, unix.TIOCINQ); err == nil && n < discipline {
				continue // it is on its way there
			}
			return tt, put
		}
		if err != nil {
			t.Fatal(err)
		}
		put = append(put, part[:n]...)
	}
}

func emptyTerminal(t *testing.T) terminal {
	t.Helper()
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(master) })
	if err := ioctl(master, tiocSPTLck, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	slave, err := ioctlValue(master, tiocGPTPeer, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(slave) })
	tt := terminal{master: master, slave: slave, termios: make([]byte, termiosSize)}
	if err := ioctl(master, tcGets2, tt.termios); err != nil {
		t.Fatal(err)
	}
	tt.termios = plain(tt.termios, false)
	if err := tt.set(tt.termios); err != nil {
		t.Fatal(err)
	}
	return tt
}

// TestFullTerminal: however a terminal came to be full, what waits in it can be looked at, stays there, and fits into
// a new one.
func TestFullTerminal(t *testing.T) {
	sizes := map[string]func() int{"any": func() int { return 1 + rand.IntN(3000) }, "small": func() int { return 1 + rand.IntN(300) }}
	for _, n := range []int{1, 80, 255, 256, 500, 512, 1000, 1024, 1500, 1536, 1792, 2048, 4096, 10000} {
		sizes[fmt.Sprint(n)] = func() int { return n }
	}
	most := 0
	for name, size := range sizes {
		for _, output := range []bool{false, true} {
			t.Run(fmt.Sprint(name, output), func(t *testing.T) {
				tt, want := fullTerminal(t, output, size)
				most = max(most, len(want))
				peek := func(tt terminal) []byte {
					t.Helper()
					var got []byte
					var err error
					if output {
						got, err = tt.peekOutput(false, false)
					} else {
						got, err = tt.peekInput()
					}
					if err != nil {
						t.Fatalf("%d bytes: %v", len(want), err)
					}
					return got
				}
				for range 2 {
					if got := peek(tt); !bytes.Equal(got, want) {
						t.Fatalf("%d bytes are in it, and it shows %d", len(want), len(got))
					}
				}
				fresh := emptyTerminal(t)
				var err error
				if output {
					err = fresh.put(nil, want)
				} else {
					err = fresh.put(want, nil)
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := fresh.set(fresh.termios); err != nil {
					t.Fatal(err)
				}
				if got := peek(fresh); !bytes.Equal(got, want) {
					t.Fatalf("%d bytes were put into it, and it shows %d", len(want), len(got))
				}
			})
		}
	}
	t.Logf("at most %d bytes", most)
}
