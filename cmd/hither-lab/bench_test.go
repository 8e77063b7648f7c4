package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestFigure(t *testing.T) {
	for _, test := range []struct {
		runs []float64
		aim  float64
		want []string
	}{
		{[]float64{30, 50, 41}, 40, []string{"41.0", "(30.0..50.0)", "aim 40.0: missed"}},
		{[]float64{1, 2, 3, 400}, 40, []string{"2.50", "(1.00..400)", "aim 40.0: met"}},
		{[]float64{7}, 0, []string{"7.00 ms"}},
		{nil, 40, []string{"none"}},
	} {
		line := figure{What: "downtime", Unit: "ms", Runs: test.runs, Aim: test.aim}.line()
		for _, w := range test.want {
			if !strings.Contains(line, w) {
				t.Errorf("%v: %q lacks %q", test.runs, line, w)
			}
		}
		if len(test.runs) == 1 && strings.Contains(line, "..") {
			t.Errorf("%v: %q has a range", test.runs, line)
		}
	}
}

func TestMachine(t *testing.T) {
	if m := machine(); !strings.Contains(m, "CPU") || !strings.Contains(m, "GiB") || !strings.Contains(m, "Linux") {
		t.Errorf("the machine is called %q", m)
	}
}

// Each kind of call takes some time, and no more than a millisecond.
func TestCallsAreMeasured(t *testing.T) {
	cmd := exec.Command(program, benchWorkCommand, "calls")
	cmd.Stdin, cmd.Stderr = strings.NewReader("go\n"), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var ns []float64
	if err := json.Unmarshal(out, &ns); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if len(ns) != len(callKinds) {
		t.Fatalf("%d kinds were measured, %d have names", len(ns), len(callKinds))
	}
	for i, v := range ns {
		if v < 1 || v > 1e6 {
			t.Errorf("%s takes %v ns", callKinds[i], v)
		}
	}
}
