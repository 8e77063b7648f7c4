package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// account is what the program of the demo tells of itself.
type account struct {
	Question string `json:"question"`
	Secret   string `json:"secret"` // sha256 of the secret and the question
	Plain    string `json:"plain"`  // the secret, told at the very end
	Pid      int    `json:"pid"`
	Child    int    `json:"child"`
	Threads  []int  `json:"threads"`
	Count    int    `json:"count"`
	Talks    int    `json:"talks"` // words exchanged with the child
	Wrong    int    `json:"wrong"` // answers of the child that were not right
	Lines    int    `json:"lines"` // written to the file
	Back     int    `json:"back"`  // times the clock went back
}

// moveResult is what `hither send --json` prints at the end.
type moveResult struct {
	Outcome string   `json:"outcome"`
	Reason  string   `json:"reason"`
	Down    float64  `json:"downtime_ms"`
	Total   float64  `json:"total_ms"`
	Rounds  int      `json:"rounds"`
	Sent    uint64   `json:"bytes_sent"`
	Memory  uint64   `json:"bytes_memory"`
	Files   int      `json:"files_sent"`
	Notes   []string `json:"notes"`
}

// stop is the program on one host, at one time.
type stop struct {
	Host   string
	Answer account
	Inside []int // its pids in its capsule
	Pids   []int // the same processes, as this machine knows them
}

// leg is one move.
type leg struct {
	From, To, Address string
	Result            moveResult
	Sight             sight
}

// story is all that the demo learns.
type story struct {
	Stops []stop
	Legs  []leg
	Final account // with the secret
	File  string  // the program's file on host a, at the end
}

type check struct {
	What string
	Held bool
}

// checks judges the story.
func (s *story) checks() []check {
	first := s.Stops[0]
	held := func(f func(before, now stop) bool) bool {
		for i, now := range s.Stops[1:] {
			if !f(s.Stops[i], now) {
				return false
			}
		}
		return true
	}
	return []check{
		{"the secret is the one it held at the start", s.secretHeld()},
		{"it counted on, and never began again", held(func(b, n stop) bool { return n.Answer.Count > b.Answer.Count })},
		{"the child lives; no word in the pipes was lost or wrong", s.Final.Wrong == 0 &&
			held(func(b, n stop) bool { return n.Answer.Talks > b.Answer.Talks })},
		{"its file is home and whole: lines 0, 1, 2, ... without a gap", s.fileWhole()},
		{"its clock never went back", s.Final.Back == 0},
		{"pids and thread ids are the same inside", held(func(_, n stop) bool {
			return n.Answer.Pid == first.Answer.Pid && n.Answer.Child == first.Answer.Child &&
				slices.Equal(n.Answer.Threads, first.Answer.Threads) && slices.Equal(n.Inside, first.Inside)
		})},
		{"... and others outside: it is not the same process", held(func(b, n stop) bool {
			return len(n.Pids) > 0 && !slices.ContainsFunc(n.Pids, func(p int) bool { return slices.Contains(b.Pids, p) })
		})},
		{"the witness heard it from where it was sent", !slices.ContainsFunc(s.Legs, func(l leg) bool { return l.Sight.Source != l.Address })},
	}
}

func (s *story) secretHeld() bool {
	secret, err := hex.DecodeString(s.Final.Plain)
	if err != nil || len(secret) == 0 {
		return false
	}
	for _, at := range s.Stops {
		sum := sha256.Sum256(append(slices.Clone(secret), at.Answer.Question...))
		if at.Answer.Secret != hex.EncodeToString(sum[:]) {
			return false
		}
	}
	return true
}

// fileWhole wants every line that the program had written when it was asked last, and none twice.
func (s *story) fileWhole() bool {
	lines := strings.Split(strings.TrimSuffix(s.File, "\n"), "\n")
	for n, l := range lines {
		if l != fmt.Sprintf("line %d", n) {
			return false
		}
	}
	return len(lines) >= s.Final.Lines
}

// paint gives text a colour, where there are colours.
type paint bool

func (p paint) in(code, text string) string {
	if !p {
		return text
	}
	return "\033[" + code + "m" + text + "\033[0m"
}

func (p paint) bold(text string) string { return p.in("1", text) }
func (p paint) dim(text string) string  { return p.in("2", text) }

// report prints the tables and the checks, no line longer than 80 columns, and tells whether all held.
func (s *story) report(w io.Writer, p paint) bool {
	row := func(name string, cells []string) {
		fmt.Fprintf(w, "  %-31s", name)
		for i, c := range cells {
			if i == len(cells)-1 {
				fmt.Fprint(w, c)
			} else {
				fmt.Fprintf(w, "%-16s", c)
			}
		}
		fmt.Fprintln(w)
	}
	legs := func(name string, f func(leg) string) {
		var cells []string
		for _, l := range s.Legs {
			cells = append(cells, f(l))
		}
		row(name, cells)
	}
	stops := func(name string, f func(stop) string) {
		var cells []string
		for _, at := range s.Stops {
			cells = append(cells, f(at))
		}
		row(name, cells)
	}
	fmt.Fprintf(w, "\n%s\n", p.bold("The moves"))
	legs("", func(l leg) string { return l.From + " -> " + l.To })
	legs("downtime by the witness' clock", func(l leg) string { return milliseconds(l.Sight.Silence) })
	legs("downtime as hither reports it", func(l leg) string { return milliseconds(l.Result.Down) })
	legs("the whole move", func(l leg) string { return milliseconds(l.Result.Total) })
	legs("memory of the program", func(l leg) string { return bytesText(l.Result.Memory) })
	legs("bytes sent, all in all", func(l leg) string { return bytesText(l.Result.Sent) })
	legs("rounds before the freeze", func(l leg) string { return strconv.Itoa(l.Result.Rounds) })
	legs("numbers that never came", func(l leg) string { return strconv.Itoa(l.Sight.Missed) })

	fmt.Fprintf(w, "\n%s\n", p.bold("The program"))
	stops("", func(at stop) string { return "on " + at.Host })
	stops("it has counted to", func(at stop) string { return strconv.Itoa(at.Answer.Count) })
	stops("words with its child", func(at stop) string { return strconv.Itoa(at.Answer.Talks) })
	stops("lines in its file", func(at stop) string { return strconv.Itoa(at.Answer.Lines) })
	stops("pids, seen from inside", func(at stop) string { return numbers(at.Inside) })
	stops("ids of its threads", func(at stop) string { return numbers(at.Answer.Threads) })
	stops("pids, seen from outside", func(at stop) string { return numbers(at.Pids) })

	fmt.Fprintf(w, "\n%s\n", p.bold("Is it the same?"))
	return tellChecks(w, p, s.checks())
}

// tellChecks prints checks, and tells whether all held.
func tellChecks(w io.Writer, p paint, checks []check) bool {
	all := true
	for _, c := range checks {
		mark := p.in("32", "yes")
		if !c.Held {
			mark, all = p.in("1;31", "NO "), false
		}
		fmt.Fprintf(w, "  %s  %s\n", mark, c.What)
	}
	return all
}

func milliseconds(ms float64) string { return fmt.Sprintf("%.0f ms", ms) }

func bytesText(n uint64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

func numbers(all []int) string {
	var b strings.Builder
	for i, n := range all {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}
