// Pid 1 of a capsule: position-independent code that needs no stack but the
// kernel's and no data. It is copied into a file of its own (init_elf.go) and
// executed there; hither itself never runs it.
//
//   have the next process become pid 2, name ourselves, make every descriptor close-on-exec, block SIGCHLD
// wait:
//   read one byte from FDGo                      <- here a restorer works on us
// command:
//   's': fork; the child executes FDSelf with FDExecChild as descriptor 0
//   any other byte: nothing, the restored app's processes are our children by now
// reap:
//   wait4(-1, __WALL|WNOHANG) until nothing is left to reap; each one is
//   reported as {pid, status} (two int32) on FDExitWrite; no child at all: exit
//   poll FDGo and FDSignal (a signalfd for SIGCHLD), then command or reap
//
// A failed fork or exec is reported as {0, -errno}. Reports are written without
// blocking and dropped when the pipe is full: reaping must never wait for a keeper.
//
// On entry SP points to argc=1, argv[0], NULL, then the environment, which is
// not one: it is the argv of the children, put there because it is the one
// place where the kernel hands us strings.
//
// The frame, from SP: 0 old signal mask, 8 comm and then the signal set,
// 16 the command byte, 24 the report (pid, status), 32 two struct pollfd,
// 48 the empty string, 64 struct signalfd_siginfo.

#include "textflag.h"

#define FDGo        3
#define FDExitWrite 5
#define FDExecChild 7
#define FDSelf      9
#define FDSignal    12
#define FDLastPid   15

TEXT ·initCode(SB), NOSPLIT|NOFRAME, $0-0
	LEAQ 24(SP), R12        // argv of the children
	MOVQ SP, R13
	SUBQ $256, R13          // the frame, below the kernel's data
	ANDQ $~15, R13
	MOVQ R13, SP

	MOVL $49, 16(R13)       // "1"
	MOVL $1, AX             // write(FDLastPid, "1", 1)
	MOVL $FDLastPid, DI
	LEAQ 16(R13), SI
	MOVL $1, DX
	SYSCALL
	MOVL $3, AX             // close(FDLastPid)
	MOVL $FDLastPid, DI
	SYSCALL

	MOVQ $0x0000726568746968, AX // "hither"
	MOVQ AX, 8(R13)
	MOVL $157, AX           // prctl(PR_SET_NAME, "hither")
	MOVL $15, DI
	LEAQ 8(R13), SI
	SYSCALL

	MOVL $436, AX           // close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
	MOVL $3, DI
	MOVL $-1, SI
	MOVL $4, DX
	SYSCALL

	MOVQ $0x10000, AX       // {SIGCHLD}
	MOVQ AX, 8(R13)
	MOVL $14, AX            // rt_sigprocmask(SIG_BLOCK, set, old, 8)
	MOVL $0, DI
	LEAQ 8(R13), SI
	MOVQ R13, DX
	MOVL $8, R10
	SYSCALL

	MOVQ $0, 48(R13)
	MOVL $FDGo, 32(R13)
	MOVL $1, 36(R13)        // POLLIN
	MOVL $FDSignal, 40(R13)
	MOVL $1, 44(R13)

wait:
	MOVL $0, AX             // read(FDGo, &command, 1)
	MOVL $FDGo, DI
	LEAQ 16(R13), SI
	MOVL $1, DX
	SYSCALL
	CMPQ AX, $1
	JEQ  command
	CMPQ AX, $-4            // EINTR
	JEQ  wait
	MOVL $1, DI
	JMP  exit

command:
	MOVBLZX 16(R13), AX
	CMPL AX, $115           // 's'
	JNE  reap
	MOVL $57, AX            // fork()
	SYSCALL
	TESTQ AX, AX
	JEQ  child
	JGT  reap
	MOVL AX, 28(R13)
	MOVL $0, 24(R13)
	JMP  report

child:
	MOVL $14, AX            // rt_sigprocmask(SIG_SETMASK, old, NULL, 8)
	MOVL $2, DI
	MOVQ R13, SI
	MOVL $0, DX
	MOVL $8, R10
	SYSCALL
	MOVL $33, AX            // dup2(FDExecChild, 0)
	MOVL $FDExecChild, DI
	MOVL $0, SI
	SYSCALL
	MOVL $322, AX           // execveat(FDSelf, "", argv, NULL, AT_EMPTY_PATH)
	MOVL $FDSelf, DI
	LEAQ 48(R13), SI
	MOVQ R12, DX
	MOVL $0, R10
	MOVL $0x1000, R8
	SYSCALL
	MOVL AX, 28(R13)
	MOVL $0, 24(R13)
	MOVL $1, AX             // write(FDExitWrite, {0, -errno}, 8)
	MOVL $FDExitWrite, DI
	LEAQ 24(R13), SI
	MOVL $8, DX
	SYSCALL
	MOVL $127, DI
	JMP  exit

report:
	MOVL $1, AX             // write(FDExitWrite, {pid, status}, 8)
	MOVL $FDExitWrite, DI
	LEAQ 24(R13), SI
	MOVL $8, DX
	SYSCALL

reap:
	MOVL $61, AX            // wait4(-1, &status, __WALL|WNOHANG, NULL)
	MOVQ $-1, DI
	LEAQ 28(R13), SI
	MOVL $0x40000001, DX
	MOVL $0, R10
	SYSCALL
	CMPQ AX, $-10           // ECHILD
	JEQ  done
	MOVL AX, 24(R13)
	TESTQ AX, AX
	JGT  report

	MOVL $7, AX             // poll(fds, 2, -1)
	LEAQ 32(R13), DI
	MOVL $2, SI
	MOVL $-1, DX
	SYSCALL
	TESTQ AX, AX
	JLE  reap               // EINTR
	MOVWLZX 46(R13), AX
	TESTL AX, AX
	JEQ  commands
	MOVL $0, AX             // read(FDSignal, buf, 128), non-blocking
	MOVL $FDSignal, DI
	LEAQ 64(R13), SI
	MOVL $128, DX
	SYSCALL
commands:
	MOVWLZX 38(R13), AX
	TESTL AX, AX
	JEQ  reap
	MOVL $0, AX             // read(FDGo, &command, 1)
	MOVL $FDGo, DI
	LEAQ 16(R13), SI
	MOVL $1, DX
	SYSCALL
	CMPQ AX, $1
	JEQ  command
	JMP  reap

done:
	MOVL $0, DI
exit:
	MOVL $231, AX           // exit_group
	SYSCALL
	BYTE $0x0f; BYTE $0x0b  // ud2, then the mark where the code ends
	BYTE $0x68; BYTE $0x69; BYTE $0x74; BYTE $0x68; BYTE $0x65; BYTE $0x72; BYTE $0x2e; BYTE $0x2e
	RET

// func initCodeAddress() uintptr
TEXT ·initCodeAddress(SB), NOSPLIT, $0-8
	LEAQ ·initCode(SB), AX
	MOVQ AX, ret+0(FP)
	RET
