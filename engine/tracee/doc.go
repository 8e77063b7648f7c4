// Package tracee is remote control of stopped processes: stop them, read and
// write their registers, make system calls inside them, let them go. It is the
// only ptrace in the house.
//
// In a nutshell: a Tracer is one goroutine locked to one OS thread, because
// ptrace knows threads, not processes; Do runs a function there. Seize and
// FreezeTree attach and stop; from then on every held thread rests in a stop
// inside the kernel's signal delivery, with the registers it had, so that
// letting go - by Detach, or by the tracer's death - resumes it as if nothing
// had been: interrupted system calls included, because only that path of the
// kernel restarts them.
//
// Calls are injected in two ways. step runs one call on a `syscall` instruction
// found in the process (its vdso), by PTRACE_SYSCALL: slow, but it needs no
// mapping and raises no signal. The train (Prepare, Batch) is a small stub in a
// memory page shared with the tracer, that runs a table of calls at a go and
// ends in a breakpoint. Registers and signal mask are put back before either
// returns. Only calls that cannot sleep for long may be injected: the restart
// block of an interrupted nanosleep or poll would be lost to another sleep.
//
// A thread is waited for by its id alone, never by wait(-1), so children that
// other parts of the program start are not stolen. There are no locks: all state
// belongs to the Tracer's thread.
package tracee
