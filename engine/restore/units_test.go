package restore

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

func TestGap(t *testing.T) {
	taken := []span{{start: 0x400000, end: 0x500000}, {start: 0x7f0000000000, end: 0x7f8000000000}, {start: 0x550000000000, end: 0x560000000000}}
	at, err := gap(taken, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range taken {
		if s.overlaps(span{start: at, end: at + 8<<20}) {
			t.Errorf("%#x overlaps %#x-%#x", at, s.start, s.end)
		}
	}
	if at%4096 != 0 {
		t.Errorf("%#x is not a page's address", at)
	}
	if _, err := gap([]span{{start: 0, end: image.TopOfUser}}, 1<<20); err == nil {
		t.Error("a gap in a full address space")
	}
}

// TestPiece checks that the code of a resumed call puts back what user code
// believes unchanged, by running it in a small model of the instructions used.
func TestPiece(t *testing.T) {
	regs := unix.PtraceRegs{Rdi: 11, Rsi: 12, Rdx: 13, R10: 14, R8: 15, R9: 16, Rip: 0x1234567890, Orig_rax: unix.SYS_CLOCK_NANOSLEEP, Rax: ^uint64(515)}
	before := regs
	const addr = 0x7000
	code := piece(&regs, image.Restart{Nr: unix.SYS_CLOCK_NANOSLEEP, Left: 2_000_000_003}, 1_000_000_007, addr)
	if regs.Rax != unix.SYS_CLOCK_NANOSLEEP || regs.Rip != addr || regs.Rdx != addr+pieceTime || int64(regs.Orig_rax) != -1 {
		t.Errorf("registers %+v", regs)
	}
	if sec, nsec := binary.LittleEndian.Uint64(code[pieceTime:]), binary.LittleEndian.Uint64(code[pieceTime+8:]); sec != 1 || nsec != 7 {
		t.Errorf("%d s %d ns are left", sec, nsec)
	}
	if code[0] != 0xb8 || binary.LittleEndian.Uint32(code[1:]) != unix.SYS_CLOCK_NANOSLEEP || code[5] != 0x0f || code[6] != 0x05 {
		t.Fatal("it does not begin with the call, and its number right before it")
	}
	at := 7
	for _, r := range []struct {
		op   [2]byte
		reg  *uint64
		want uint64
	}{
		{[2]byte{0x48, 0xbf}, &regs.Rdi, before.Rdi}, {[2]byte{0x48, 0xbe}, &regs.Rsi, before.Rsi}, {[2]byte{0x48, 0xba}, &regs.Rdx, before.Rdx},
		{[2]byte{0x49, 0xba}, &regs.R10, before.R10}, {[2]byte{0x49, 0xb8}, &regs.R8, before.R8}, {[2]byte{0x49, 0xb9}, &regs.R9, before.R9},
	} {
		if code[at] != r.op[0] || code[at+1] != r.op[1] {
			t.Fatalf("at %d: %x", at, code[at:at+2])
		}
		if got := binary.LittleEndian.Uint64(code[at+2:]); got != r.want {
			t.Errorf("a register gets %d instead of %d", got, r.want)
		}
		at += 10
	}
	if to := binary.LittleEndian.Uint64(code[at+6:]); code[at] != 0xff || code[at+1] != 0x25 || to != before.Rip {
		t.Errorf("it goes on at %#x", to)
	}
	if at+14 > pieceTime {
		t.Error("the code runs into the time")
	}
}
