//go:build linux && amd64

package handle

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers that golang.org/x/sys/unix lacks.
const (
	fOwnerTid     = 0 // F_OWNER_*, asm-generic/fcntl.h
	fOwnerPid     = 1
	fOwnerPgrp    = 2
	fGetSig       = 11         // F_GETSIG, asm-generic/fcntl.h
	tfdSetTicks   = 0x40085400 // TFD_IOC_SET_TICKS, linux/timerfd.h
	inotifySetWD  = 0x40044900 // INOTIFY_IOC_SETNEXTWD, linux/inotify.h
	tiocGPTPeer   = unix.TIOCGPTPEER
	soPassPidfd   = 76         // SO_PASSPIDFD, asm-generic/socket.h
	fAsync        = 0x2000     // FASYNC
	oTmpfileBit   = 0o20000000 // __O_TMPFILE, asm-generic/fcntl.h
	oLargefile    = 0o100000   // O_LARGEFILE on x86
	sealsOfNoneFD = unix.F_SEAL_SEAL
)

// ioctl is ioctl(2) with an argument that the kernel reads or writes.
func ioctl(fd int, request uintptr, arg []byte) error {
	var p unsafe.Pointer
	if len(arg) > 0 {
		p = unsafe.Pointer(&arg[0])
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(p))
	if errno != 0 {
		return errno
	}
	return nil
}

// ioctlValue is ioctl(2) with an argument passed by value.
func ioctlValue(fd int, request, arg uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// owner is F_GETOWN_EX: the type and the id, as this process numbers it.
func owner(fd int) (kind, id int, err error) {
	var own [2]int32
	_, _, errno := unix.Syscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETOWN_EX, uintptr(unsafe.Pointer(&own)))
	if errno != 0 {
		return 0, 0, errno
	}
	return int(own[0]), int(own[1]), nil
}

// getsockopt is getsockopt(2), raw.
func getsockopt(fd, level, name, size int) ([]byte, error) {
	buf := make([]byte, size)
	length := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return nil, errno
	}
	return buf[:min(int(length), size)], nil
}

// setsockopt is setsockopt(2), raw.
func setsockopt(fd, level, name int, value []byte) error {
	if len(value) == 0 {
		return unix.EINVAL
	}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value[0])), uintptr(len(value)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Raw socket addresses: golang.org/x/sys/unix cannot tell an unnamed unix
// socket from one with an empty abstract name, nor a path with a NUL at its end.

const addressSize = 128 // struct sockaddr_storage

func socketName(nr uintptr, fd int) ([]byte, error) {
	var buf [addressSize]byte
	length := uint32(len(buf))
	_, _, errno := unix.Syscall(nr, uintptr(fd), uintptr(unsafe.Pointer(&buf)), uintptr(unsafe.Pointer(&length)))
	if errno != 0 {
		return nil, errno
	}
	return buf[:min(length, addressSize):min(length, addressSize)], nil
}

func getsockname(fd int) ([]byte, error) { return socketName(unix.SYS_GETSOCKNAME, fd) }
func getpeername(fd int) ([]byte, error) { return socketName(unix.SYS_GETPEERNAME, fd) }

func bindRaw(fd int, address []byte) error    { return addressCall(unix.SYS_BIND, fd, address) }
func connectRaw(fd int, address []byte) error { return addressCall(unix.SYS_CONNECT, fd, address) }

func addressCall(nr uintptr, fd int, address []byte) error {
	if len(address) < 2 {
		return unix.EINVAL
	}
	_, _, errno := unix.Syscall(nr, uintptr(fd), uintptr(unsafe.Pointer(&address[0])), uintptr(len(address)))
	if errno != 0 {
		return errno
	}
	return nil
}

// message is what one recvmsg(2) returned.
type message struct {
	data, control, name []byte
	flags               int
}

// recvmsg receives once, never blocking. Received descriptors are close-on-exec.
func recvmsg(fd int, data, control []byte, flags int) (message, error) {
	var name [addressSize]byte
	iov := unix.Iovec{}
	if len(data) > 0 {
		iov.Base, iov.Len = &data[0], uint64(len(data))
	}
	hdr := unix.Msghdr{Name: &name[0], Namelen: addressSize, Iov: &iov, Iovlen: 1}
	if len(control) > 0 {
		hdr.Control, hdr.Controllen = &control[0], uint64(len(control))
	}
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdr)),
		uintptr(flags|unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC))
	if errno != 0 {
		return message{}, errno
	}
	m := message{data: data[:min(int(n), len(data))], control: control[:hdr.Controllen], flags: int(hdr.Flags)}
	if hdr.Namelen > 0 && hdr.Namelen <= addressSize {
		m.name = append([]byte(nil), name[:hdr.Namelen]...)
	}
	return m, nil
}

// sendmsg sends once, never blocking; to may be nil.
func sendmsg(fd int, data, control, to []byte) (int, error) {
	iov := unix.Iovec{}
	if len(data) > 0 {
		iov.Base, iov.Len = &data[0], uint64(len(data))
	}
	hdr := unix.Msghdr{Iov: &iov, Iovlen: 1}
	if len(control) > 0 {
		hdr.Control, hdr.Controllen = &control[0], uint64(len(control))
	}
	if len(to) > 0 {
		hdr.Name, hdr.Namelen = &to[0], uint32(len(to))
	}
	n, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdr)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
