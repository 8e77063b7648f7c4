// Gowork is a static Go program with a large map, goroutines and timers, which
// says on each line of its stdin how it is.
package main

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const chunk = 1 << 16

func main() {
	megabytes, _ := strconv.Atoi(os.Args[1])
	// Incompressible, and different in each chunk.
	m := map[uint64][]byte{}
	x := uint64(88172645463325252)
	for n := range uint64(megabytes) << 20 / chunk {
		b := make([]byte, chunk)
		for i := 0; i < chunk; i += 8 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			for j := range 8 {
				b[i+j] = byte(x >> (8 * j))
			}
		}
		m[n*2654435761] = b
	}
	var work, ticks, fired atomic.Int64
	var wrong atomic.Value
	wrong.Store("")

	// A ring of goroutines: a number runs through unbuffered channels.
	const ring = 100
	start := make(chan int)
	in := start
	for range ring {
		out := make(chan int)
		go func(in, out chan int) {
			for n := range in {
				out <- n + 1
			}
		}(in, out)
		in = out
	}
	go func() {
		for n := 0; ; {
			start <- n
			if got := <-in; got != n+ring {
				wrong.Store(fmt.Sprintf("the ring gave %d for %d", got, n))
			} else {
				n = got
			}
			work.Add(1)
			time.Sleep(time.Millisecond)
		}
	}()
	var mu sync.Mutex
	shared := map[string]int{}
	for i := range 8 {
		go func() {
			for {
				mu.Lock()
				shared[strconv.Itoa(i)]++
				mu.Unlock()
				runtime.Gosched()
				time.Sleep(2 * time.Millisecond)
			}
		}()
	}
	go func() {
		last := time.Now()
		for range time.Tick(10 * time.Millisecond) {
			// Not the tick's own time: that is set back by how late it is.
			now := time.Now()
			if now.Before(last) {
				wrong.Store("time went back")
			}
			last = now
			ticks.Add(1)
		}
	}()
	time.AfterFunc(time.Hour, func() { fired.Add(1) })

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		sum := uint32(0)
		for n := range uint64(len(m)) {
			sum = crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), m[n*2654435761])
		}
		fmt.Printf(`answer %s {"Sum":"%08x","Entries":%d,"Work":%d,"Ticks":%d,"Fired":%d,"Goroutines":%d,"Wrong":%q}`+"\n",
			lines.Text(), sum, len(m), work.Load(), ticks.Load(), fired.Load(), runtime.NumGoroutine(), wrong.Load())
	}
}
