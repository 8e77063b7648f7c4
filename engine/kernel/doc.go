// Package kernel holds the system calls, structures and constants of Linux on
// x86-64 that golang.org/x/sys/unix lacks, and the one place that finds out
// what the running kernel lets this user do.
//
// In a nutshell: every function here is one system call (or one ioctl) with its
// arguments made safe and its errno returned; nothing is remembered between
// calls. proc.go has what /proc alone tells and several packages ask. The ptrace calls must be made on the thread that traces (package
// tracee sees to that); all else may be called from anywhere. Probe tries
// abilities out, in a child where that is needed, and never asks for a version.
//
// Files named *_unsafe.go are the only ones that touch unsafe.
package kernel
