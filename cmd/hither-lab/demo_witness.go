package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The witness of the demo is a process on a third host. It sees nothing but the numbers that the
// program sends, and notes by its own clock how long none came. It is spoken to in lines:
//
//	mark      start a new watch        -> {}
//	seen      what was seen since      -> sight
//	ask Q     pass a question on       -> the program's answer, as it came

const (
	witnessCommand = "demo-witness"
	witnessPort    = 9000
)

// sight is what the witness saw during one watch.
type sight struct {
	Silence float64 `json:"silence_ms"` // the longest without a number, less the usual distance of two
	Beats   int     `json:"beats"`
	Missed  int     `json:"missed"` // numbers that never came, those of the silence too
	Source  string  `json:"source"` // where the last number came from
}

// watch gathers a sight.
type watch struct {
	last   time.Time
	number int
	source string
	gaps   []time.Duration // since mark
	missed int
}

func (w *watch) beat(number int, source string, at time.Time) {
	if !w.last.IsZero() {
		w.gaps = append(w.gaps, at.Sub(w.last))
		if number > w.number {
			w.missed += number - w.number - 1
		} else {
			w.missed-- // it came late
		}
	}
	w.last, w.number, w.source = at, max(number, w.number), source
}

// mark forgets all but the last number: the silence may begin with it.
func (w *watch) mark() { w.gaps, w.missed = nil, 0 }

func (w *watch) seen() sight {
	s := sight{Beats: len(w.gaps), Missed: w.missed, Source: w.source}
	if len(w.gaps) > 0 {
		gaps := slices.Sorted(slices.Values(w.gaps))
		usual := gaps[len(gaps)/2]
		s.Silence = float64(gaps[len(gaps)-1]-usual) / float64(time.Millisecond)
	}
	return s
}

// witnessMain runs on the witness' host.
func witnessMain() int {
	if err := witness(); err != nil {
		fmt.Fprintf(os.Stderr, "witness: %v\n", err)
		return 1
	}
	return 0
}

func witness() error {
	sock, err := net.ListenUDP("udp4", &net.UDPAddr{Port: witnessPort})
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer sock.Close()
	type packet struct {
		text string
		from *net.UDPAddr
		at   time.Time
	}
	packets, commands := make(chan packet, 1024), make(chan string)
	go func() {
		buffer := make([]byte, 65536)
		for {
			n, from, err := sock.ReadFromUDP(buffer)
			if err != nil {
				return
			}
			packets <- packet{string(buffer[:n]), from, time.Now()}
		}
	}()
	go func() {
		defer close(commands)
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			commands <- s.Text()
		}
	}()
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(struct{}{}); err != nil { // ready
		return err
	}
	var w watch
	var from *net.UDPAddr
	question, repeat := "", time.NewTicker(100*time.Millisecond)
	defer repeat.Stop()
	ask := func() {
		if question != "" && from != nil {
			sock.WriteToUDP([]byte(question), from) //nolint:errcheck // asked again if it gets lost
		}
	}
	for {
		select {
		case p := <-packets:
			if n, err := strconv.Atoi(p.text); err == nil {
				first := from == nil
				from = p.from
				w.beat(n, p.from.IP.String(), p.at)
				if first {
					ask()
				}
				continue
			}
			var a account
			if json.Unmarshal([]byte(p.text), &a) != nil || a.Question != question || question == "" {
				continue // to a question that was asked twice
			}
			question = ""
			err = out.Encode(json.RawMessage(p.text))
		case <-repeat.C:
			ask()
		case c, ok := <-commands:
			if !ok {
				return nil
			}
			switch {
			case c == "mark":
				w.mark()
				err = out.Encode(struct{}{})
			case c == "seen":
				err = out.Encode(w.seen())
			case strings.HasPrefix(c, "ask "):
				question = strings.TrimPrefix(c, "ask ")
				ask()
			}
		}
		if err != nil {
			return fmt.Errorf("telling: %w", err)
		}
	}
}
