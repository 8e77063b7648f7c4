//go:build linux && amd64

package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Categories of pages, PAGEMAP_SCAN in include/uapi/linux/fs.h.
const (
	PageWPAllowed = 1 << 0 // tracked by userfaultfd WP_ASYNC
	PageWritten   = 1 << 1 // written since it was last write-protected
	PageFile      = 1 << 2
	PagePresent   = 1 << 3
	PageSwapped   = 1 << 4
	PagePFNZero   = 1 << 5 // the shared page of zeros
	PageHuge      = 1 << 6
	PageSoftDirty = 1 << 7
	PageGuard     = 1 << 8 // MADV_GUARD_INSTALL; newer kernels only
)

// Flags of PAGEMAP_SCAN.
const (
	ScanWPMatching   = 1 << 0 // write-protect what is reported
	ScanCheckWPAsync = 1 << 1 // fail with EPERM where nothing is tracked
)

// PageRegion is struct page_region.
type PageRegion struct {
	Start, End uint64
	Categories uint64
}

// PageScan is struct pm_scan_arg: pages that have all of Mask, after Inverted is
// flipped, and (if it is not 0) any of AnyOf.
type PageScan struct {
	size       uint64
	Flags      uint64
	Start, End uint64
	WalkEnd    uint64 // where the kernel stopped: End, unless the regions were full
	vec        unsafe.Pointer
	vecLen     uint64
	MaxPages   uint64
	Inverted   uint64
	Mask       uint64
	AnyOf      uint64
	Return     uint64
}

const pagemapScan = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)

// ScanPages is the ioctl PAGEMAP_SCAN on a descriptor of /proc/PID/pagemap. It
// fills regions and says how many.
func ScanPages(pagemap int, scan *PageScan, regions []PageRegion) (int, error) {
	scan.size = uint64(unsafe.Sizeof(*scan))
	scan.vec, scan.vecLen = unsafe.Pointer(unsafe.SliceData(regions)), uint64(len(regions))
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(pagemap), pagemapScan, uintptr(unsafe.Pointer(scan)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Userfaultfd, include/uapi/linux/userfaultfd.h.
const (
	UffdUserModeOnly = 1 // flag of userfaultfd(2): no privilege needed

	UffdAPI                   = 0xaa
	UffdFeatureWPHugetlbShmem = 1 << 12
	UffdFeatureWPUnpopulated  = 1 << 13
	UffdFeatureWPAsync        = 1 << 15

	UffdRegisterMissing = 1 << 0
	UffdRegisterWP      = 1 << 1

	uffdioAPI          = 0xc018aa3f
	uffdioRegister     = 0xc020aa00
	uffdioUnregister   = 0x8010aa01
	uffdioCopy         = 0xc028aa03
	uffdioWriteprotect = 0xc018aa06
)

// UffdOpen agrees on features with a fresh userfaultfd (UFFDIO_API).
func UffdOpen(fd int, features uint64) error {
	arg := struct{ api, features, ioctls uint64 }{api: UffdAPI, features: features}
	return ioctl(fd, uffdioAPI, unsafe.Pointer(&arg))
}

// UffdRegister watches a range of the descriptor's process (UFFDIO_REGISTER).
func UffdRegister(fd int, start, length, mode uint64) error {
	arg := struct{ start, length, mode, ioctls uint64 }{start: start, length: length, mode: mode}
	return ioctl(fd, uffdioRegister, unsafe.Pointer(&arg))
}

// UffdUnregister is UFFDIO_UNREGISTER.
func UffdUnregister(fd int, start, length uint64) error {
	arg := struct{ start, length uint64 }{start, length}
	return ioctl(fd, uffdioUnregister, unsafe.Pointer(&arg))
}

// UffdWriteProtect is UFFDIO_WRITEPROTECT: protect, or (false) let write.
func UffdWriteProtect(fd int, start, length uint64, on bool) error {
	arg := struct{ start, length, mode uint64 }{start: start, length: length}
	if on {
		arg.mode = 1
	}
	return ioctl(fd, uffdioWriteprotect, unsafe.Pointer(&arg))
}

// UffdCopy puts bytes into pages that are missing (UFFDIO_COPY) and says how many.
func UffdCopy(fd int, to uint64, from []byte) (int, error) {
	if len(from) == 0 {
		return 0, nil
	}
	arg := struct {
		dst          uint64
		src          *byte
		length, mode uint64
		copied       int64
	}{dst: to, src: &from[0], length: uint64(len(from))}
	err := ioctl(fd, uffdioCopy, unsafe.Pointer(&arg))
	return int(max(arg.copied, 0)), err
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}
