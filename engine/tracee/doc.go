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
// Calls are injected in two ways, by a stub each, which reports by a signal to itself. The perch
// makes one call at a time; it stands in the room that the vdso leaves in its last page, so it needs no
// mapping. The train (Prepare, Batch) runs a table of calls at a go, in memory shared with the tracer.
// Registers and signal mask are put back before either returns. If the tracer dies amid them, the stub puts
// them back itself and the program goes on (stub.go). Only calls that cannot sleep for long may be
// injected: the restart block of an interrupted nanosleep or poll would be lost to another sleep.
//
// Not safe from the tracer's death are: a process without a vdso; a thread while it is led out of its vdso
// (StepOutOfVDSO, only towards another kernel), some dozens of steps; what a batch was for, if it needs another.
//
// A thread is waited for by its id alone, never by wait(-1), so children that
// other parts of the program start are not stolen. There are no locks: all state
// belongs to the Tracer's thread.
package tracee
