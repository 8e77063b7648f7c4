package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// start is what `hither run` adds to the start of a program.
func (b *bench) start(ctx context.Context) error {
	b.say("\nstart and end of `true`, in turns")
	runs := max(11, 2*b.runs)
	what := []string{"true", "unshare -Urpf true", "hither run true"}
	args := []string{benchProgram, benchWorkCommand, "starts", fmt.Sprint(runs), "true", ",", "unshare", "-Urpf", "true", ",", "hither", "run", "true"}
	out, err := b.on(ctx, "a", args...)
	if err != nil { // a machine without unshare(1)
		what = []string{what[0], what[2]}
		if out, err = b.on(ctx, "a", append(args[:5:5], args[9:]...)...); err != nil {
			return err
		}
	}
	var took [][]float64
	if err := json.Unmarshal(out, &took); err != nil {
		return err
	}
	for i, name := range what {
		for j := range took[i] {
			took[i][j] /= 1000
		}
		b.note("start", name, "ms", took[i], 0)
	}
	return nil
}

// rest is what a capsule costs while nothing happens in it.
func (b *bench) rest(ctx context.Context) (err error) {
	b.say("\na capsule at rest (sleep), 3 s after its start")
	if _, err := b.on(ctx, "a", "hither", "run", "-d", "--name", "idle", "sleep", "600"); err != nil {
		return err
	}
	defer func() {
		_, serr := b.on(ctx, "a", "hither", "stop", "idle")
		err = errors.Join(err, serr)
	}()
	wait(ctx, 3*time.Second)
	out, err := b.on(ctx, "a", benchProgram, benchWorkCommand, "rest", "10")
	if err != nil {
		return err
	}
	var r atRest
	if err := json.Unmarshal(out, &r); err != nil {
		return err
	}
	one := func(what, unit string, v float64) { b.note("rest", what, unit, []float64{v}, 0) }
	one("keeper, its share of memory (PSS)", "MB", float64(r.KeeperKB)/1024)
	one("keeper, resident (RSS)", "MB", float64(r.KeeperRSS)/1024)
	one("pid 1 of the capsule, PSS", "MB", float64(r.InitKB)/1024)
	one("keeper, times it woke", "a second", r.KeeperWakes)
	one("pid 1, times it woke", "a second", r.InitWakes)
	return nil
}

// calls compares system calls inside a capsule and outside. The two processes
// measure in turns, and the ratio is that of neighbours.
func (b *bench) calls(ctx context.Context) error {
	b.say("\nsystem calls inside a capsule / outside, in turns")
	outside, err := b.talk(ctx, "a", benchProgram, benchWorkCommand, "calls")
	if err != nil {
		return err
	}
	defer outside.close()
	inside, err := b.talk(ctx, "a", "hither", "run", "--name", "calls", benchProgram, benchWorkCommand, "calls")
	if err != nil {
		return err
	}
	defer inside.close()
	ratios := make([][]float64, len(callKinds))
	var all []float64
	for range max(41, 3*b.runs) {
		var out, in []float64
		if err := errors.Join(outside.ask("", &out), inside.ask("", &in)); err != nil {
			return err
		}
		for i := range ratios {
			ratios[i] = append(ratios[i], in[i]/out[i])
		}
	}
	for i, kind := range callKinds {
		b.note("calls", kind, "x", ratios[i], 0)
		all = append(all, ratios[i]...)
	}
	b.note("calls", "all of them", "x", all, 1.02)
	return nil
}
