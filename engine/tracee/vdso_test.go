//go:build linux && amd64

package tracee

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func init() {
	victims["clock"] = func() {
		fmt.Println("ready")
		last := time.Now()
		for {
			now := time.Now()
			if now.Before(last) {
				panic("the clock went back")
			}
			if now.Sub(last) > 100*time.Millisecond {
				fmt.Println("gap")
			}
			last = now
		}
	}
}

func TestStepOutOfVDSO(t *testing.T) {
	v := startVictim(t, nil, "clock")
	v.line(t)
	tr := newTracer(t)
	seen := 0
	for try := 0; try < 300 && seen < 5; try++ {
		do(t, tr, func() error {
			p, err := tr.Seize(v.Process.Pid)
			if err != nil {
				return err
			}
			base, image := p.vdso(nil)
			if image == nil {
				return errors.New("no vdso")
			}
			if err := p.Prepare(0); err != nil {
				return err
			}
			inside := func() (n int) {
				for _, th := range p.Threads {
					if th.Regs().Rip-base < vdsoSize {
						n++
					}
				}
				return n
			}
			seen += inside()
			if err := p.StepOutOfVDSO(); err != nil {
				return err
			}
			if inside() != 0 {
				return errors.New("still inside")
			}
			return tr.Detach(p)
		})
	}
	if seen == 0 {
		t.Error("no thread was ever inside the vdso")
	}
	if s := state(t, v.Process.Pid); s == 'Z' {
		t.Error("it died")
	}
}
