package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// smallProgram beats to the witness every millisecond.
const smallProgram = `import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to = ("%s", %s)
while True:
    try:
        s.sendto(b"\x01", to)
    except OSError:
        pass
    time.sleep(0.001)
`

// benchMove is what `hither send --json` prints at the end.
type benchMove struct {
	Outcome, Reason string
	Down            float64 `json:"downtime_ms"`
	Total           float64 `json:"total_ms"`
	Freeze          float64 `json:"freeze_ms"`
	Restore         float64 `json:"restore_ms"`
	Rounds          int     `json:"rounds"`
	Sent            float64 `json:"bytes_sent"`
	Memory          float64 `json:"bytes_memory"`
	silence         float64 // the longest of any process, by the witness' clock
}

func (b *bench) small(ctx context.Context) error {
	b.say("\na small python program, every move between a and b")
	host, port, _ := strings.Cut(witnessAt, ":")
	moves, err := b.journey(ctx, "small", b.runs, time.Second, nil, "python3", "-c", fmt.Sprintf(smallProgram, host, port))
	b.moved("small", moves, 40)
	return err
}

func (b *bench) tree(ctx context.Context) error {
	b.say("\n50 processes of 4 threads (a C program)")
	host, port, _ := strings.Cut(witnessAt, ":")
	for _, h := range []string{"a", "b"} {
		if out, err := b.on(ctx, h, "sh", "-c", "cc -O1 -pthread -x c -o "+treeProgram+" - <<'END'\n"+treeSource+"END\n"); err != nil {
			b.say("  left out, no C compiler: %s", bytes.TrimSpace(out))
			return nil
		}
	}
	moves, err := b.journey(ctx, "tree", b.runs, 2*time.Second, nil, treeProgram, "50", host, port)
	b.moved("tree", moves, 150)
	return err
}

// gotree is as many processes of a runtime that has threads and memory of its own: seven
// threads and 1.2 MB each.
func (b *bench) gotree(ctx context.Context) error {
	b.say("\n50 processes of a static Go program, 7 threads each")
	moves, err := b.journey(ctx, "gotree", b.runs, 2*time.Second, nil, benchProgram, benchWorkCommand, "tree", "50", witnessAt)
	b.moved("gotree", moves, 0)
	return err
}

const treeProgram = labHome + "/tree"

// treeSource is a tree of so many processes with four threads each: COUNT HOST PORT.
// The first process and the last one beat.
const treeSource = `#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static void doze(long ns) { struct timespec t = {0, ns}; nanosleep(&t, 0); }
static void *idle(void *p) { for (;;) doze(50000000); return p; }
int main(int argc, char **argv) {
	int count = atoi(argv[1]), who = 1;
	for (int i = 2; i <= count; i++)
		if (fork() == 0) { who = i == count ? 2 : 0; break; }
	pthread_t t;
	for (int i = 0; i < 3; i++) pthread_create(&t, 0, idle, 0);
	if (!who) idle(0);
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in to = {AF_INET, htons(atoi(argv[3]))};
	inet_pton(AF_INET, argv[2], &to.sin_addr);
	for (char beat = who;; doze(1000000)) sendto(s, &beat, 1, 0, (struct sockaddr *)&to, sizeof to);
}
`

const bulkSize = 1 << 30

func (b *bench) bulk(ctx context.Context) error {
	b.say("\n1 GiB of incompressible memory, and the same bytes over the bare transport")
	take, err := b.talk(ctx, "b", benchProgram, benchWorkCommand, "take")
	if err != nil {
		return err
	}
	defer take.close()
	give, err := b.talk(ctx, "a", benchProgram, benchWorkCommand, "give", fmt.Sprint(bulkSize))
	if err != nil {
		return err
	}
	defer give.close()
	if err := introduce(give, take); err != nil {
		return err
	}
	measure := func(name, group string, aim float64) error {
		var bare, ratios []float64
		moves, err := b.journey(ctx, name, max(5, b.runs-2), 3*time.Second, func() error {
			var ms float64
			err := give.ask("go", &ms)
			bare = append(bare, ms)
			return err
		}, benchProgram, benchWorkCommand, "hold", fmt.Sprint(bulkSize), witnessAt)
		b.moved(group, moves, 0)
		for i, m := range moves {
			// Each move has a run of the bare transport before and one after it.
			ratios = append(ratios, m.Total/((bare[i]+bare[i+1])/2))
		}
		b.note(group, "bare transport", "ms", bare, 0)
		b.note(group, "a whole move / bare transport", "x", ratios, aim)
		return err
	}
	if err := measure("bulk", "bulk", 0); err != nil {
		return err
	}
	b.say("  the same, and all of it travels after the freeze")
	return b.withoutPreCopy(ctx, func() error { return measure("bulkfrozen", "bulk, all of it after the freeze", 1.3) })
}

// withoutPreCopy has all memory travel after the freeze, as long as fn takes. Each host decides for itself
// whether it takes memory ahead.
func (b *bench) withoutPreCopy(ctx context.Context, fn func() error) (err error) {
	set := func(what string) (err error) {
		for _, h := range []string{"a", "b"} {
			err = errors.Join(err, b.daemonWith(ctx, h, what))
		}
		return err
	}
	if err := set("HITHER_PRECOPY=off"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set("")) }()
	return fn()
}

// liveRate is how much memory a live program writes to in a second, one page after the other.
const liveRate = 50 << 20

// live moves 1 GiB that is written to all the while, by turns as ever and with all memory
// after the freeze.
func (b *bench) live(ctx context.Context) error {
	b.say("\n1 GiB of incompressible memory, of which 50 MiB are written to in a second")
	argv := []string{benchProgram, benchWorkCommand, "live", fmt.Sprint(bulkSize), fmt.Sprint(liveRate), witnessAt}
	moves, err := b.journey(ctx, "live", max(3, b.runs-4), 4*time.Second, nil, argv...)
	b.moved("live", moves, 0)
	if err != nil {
		return err
	}
	b.say("  the same, and all of it travels after the freeze")
	return b.withoutPreCopy(ctx, func() error {
		moves, err := b.journey(ctx, "frozen", max(3, b.runs-4), 4*time.Second, nil, argv...)
		b.moved("live, all of it after the freeze", moves, 0)
		return err
	})
}

// daemonWith has a host's daemon start anew, as any command starts it, with something
// in its environment.
func (b *bench) daemonWith(ctx context.Context, host, set string) error {
	if _, err := b.do(ctx, "kill", host, "daemon"); err != nil {
		return err
	}
	_, err := b.on(ctx, host, slices.DeleteFunc([]string{"env", set, "hither", "ls"}, func(s string) bool { return s == "" })...)
	return err
}

// introduce gives each side the other one's card.
func introduce(x, y *talker) error {
	var cards []string
	for _, t := range []*talker{x, y} {
		card, err := t.line()
		if err != nil {
			return err
		}
		cards = append(cards, card)
	}
	for i, t := range []*talker{x, y} {
		if _, err := fmt.Fprintln(t.in, cards[1-i]); err != nil {
			return err
		}
		if _, err := t.line(); err != nil { // paired
			return err
		}
	}
	return nil
}

// journey starts an app on host a and moves it back and forth. between, if any, is
// called before each move and after the last.
func (b *bench) journey(ctx context.Context, name string, runs int, settle time.Duration, between func() error, argv ...string) (moves []benchMove, err error) {
	if _, err := b.on(ctx, "a", append([]string{"hither", "run", "-d", "--name", name}, argv...)...); err != nil {
		return nil, err
	}
	at, to := "a", "b"
	defer func() {
		if _, serr := b.on(ctx, at, "hither", "stop", name); serr != nil {
			err = errors.Join(err, serr)
		}
	}()
	wait(ctx, settle)
	for range runs + 1 { // the first one fills caches
		if between != nil && len(moves) > 0 {
			if err := between(); err != nil {
				return moves[1:], err
			}
		}
		var gaps []float64
		if err := b.heard.ask("", &gaps); err != nil {
			return moves, err
		}
		wait(ctx, 100*time.Millisecond)
		out, err := b.on(ctx, at, "hither", "send", name, to, "--json")
		if err != nil {
			return moves[min(1, len(moves)):], err
		}
		var m benchMove
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		if err := json.Unmarshal(lines[len(lines)-1], &m); err != nil {
			return moves[min(1, len(moves)):], fmt.Errorf("reading what hither says of the move: %w", err)
		}
		if m.Outcome != "moved" {
			return moves[min(1, len(moves)):], fmt.Errorf("it did not move: %s", m.Reason)
		}
		at, to = to, at
		wait(ctx, 200*time.Millisecond)
		if err := b.heard.ask("", &gaps); err != nil {
			return moves, err
		}
		if len(gaps) > 0 {
			m.silence = slices.Max(gaps)
		}
		moves = append(moves, m)
	}
	if between != nil {
		err = between()
	}
	return moves[1:], err
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// moved notes the figures of some moves.
func (b *bench) moved(group string, moves []benchMove, aim float64) {
	if len(moves) == 0 {
		return
	}
	of := func(pick func(benchMove) float64) []float64 {
		var all []float64
		for _, m := range moves {
			all = append(all, pick(m))
		}
		return all
	}
	b.note(group, "downtime", "ms", of(func(m benchMove) float64 { return m.Down }), aim)
	b.note(group, "longest silence a witness heard", "ms", of(func(m benchMove) float64 { return m.silence }), aim)
	b.note(group, "freeze", "ms", of(func(m benchMove) float64 { return m.Freeze }), 0)
	b.note(group, "restore, after the last byte", "ms", of(func(m benchMove) float64 { return m.Restore }), 0)
	b.note(group, "the whole move", "ms", of(func(m benchMove) float64 { return m.Total }), 0)
	b.note(group, "memory, of all rounds", "MB", of(func(m benchMove) float64 { return m.Memory / 1e6 }), 0)
	b.note(group, "bytes sent", "MB", of(func(m benchMove) float64 { return m.Sent / 1e6 }), 0)
	b.note(group, "rounds ahead", "", of(func(m benchMove) float64 { return float64(m.Rounds) }), 0)
}
