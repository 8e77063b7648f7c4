package transport

import (
	"fmt"
	"io"
	"runtime/debug"
	"syscall"
	"testing"
	"time"
)

// BenchmarkBulk sends 1 GiB over loopback in writes of 1 MiB, over so many
// connections. It is what a stop-and-copy move is to be compared with.
func BenchmarkBulk(b *testing.B) {
	for _, gogc := range []int{100, 400} {
		for _, conns := range []int{1, 2} {
			b.Run(fmt.Sprintf("gogc=%d/conns=%d", gogc, conns), func(b *testing.B) {
				defer debug.SetGCPercent(debug.SetGCPercent(gogc))
				benchBulk(b, conns, 1<<30, 1<<20)
			})
		}
	}
}

// BenchmarkSmallWrites shows why writes should not be small.
func BenchmarkSmallWrites(b *testing.B) { benchBulk(b, 1, 128<<20, 4<<10) }

func benchBulk(b *testing.B, conns int, total int64, write int) {
	from, to := newHost(b, "a", local, Options{}), newHost(b, "b", local, Options{})
	pair(b, from, to)
	ctx := b.Context()
	var outs, ins []*Conn
	for range conns {
		out, in := connect(b, from, to)
		outs, ins = append(outs, out), append(ins, in)
	}
	b.SetBytes(total)
	begin, rounds := cpuTime(), 0
	for b.Loop() {
		rounds++
		failed := make(chan error, 2*conns)
		for i := range conns {
			go func() {
				s, err := outs[i].OpenStream(ctx)
				for left := total / int64(conns); left > 0 && err == nil; left -= int64(write) {
					_, err = s.Write(make1M[:write])
				}
				if err == nil {
					err = s.Close()
				}
				if err == nil {
					_, err = io.Copy(io.Discard, s) // until the receiver has all
				}
				failed <- err
			}()
			go func() {
				s, err := ins[i].AcceptStream(ctx)
				buf := make([]byte, 256<<10)
				for err == nil {
					_, err = s.Read(buf)
				}
				if err == io.EOF {
					err = s.Close()
				}
				failed <- err
			}()
		}
		for range 2 * conns {
			if err := <-failed; err != nil {
				b.Fatal(err)
			}
		}
	}
	b.StopTimer()
	b.ReportMetric((cpuTime()-begin).Seconds()*1e9/float64(total)/float64(rounds), "cpu-s/GB") // of both ends
	var lost, sent uint64
	for _, c := range outs {
		lost += c.Stats().Dropped
		sent += c.Stats().PacketsSent
	}
	b.ReportMetric(100*float64(lost)/float64(sent), "%lost")
}

// cpuTime is what this process has used; unlike MB/s it hardly depends on what
// else the machine does.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var make1M = make([]byte, 1<<20)

// BenchmarkPing is a round trip through both hosts' hither.
func BenchmarkPing(b *testing.B) {
	x, y := newHost(b, "a", local, Options{}), newHost(b, "b", local, Options{})
	pair(b, x, y)
	out, _ := connect(b, x, y)
	for b.Loop() {
		if _, err := out.Ping(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDial is a whole handshake with hello.
func BenchmarkDial(b *testing.B) {
	x, y := newHost(b, "a", local, Options{}), newHost(b, "b", local, Options{})
	pair(b, x, y)
	for b.Loop() {
		if _, _, err := x.Ping(within(b, 10*time.Second), y.Card().Peer()); err != nil {
			b.Fatal(err)
		}
	}
}
