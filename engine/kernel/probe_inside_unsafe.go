//go:build linux && amd64

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probeInside tries what a capsule does, in a child that is pid 1 of namespaces
// like a capsule's.
func probeInside() []Ability {
	all := []Ability{
		ability(SetTid, trySetTid(), "needs Linux 5.9 or newer with CONFIG_CHECKPOINT_RESTORE"),
		ability(TimeNamespace, tryTime(), "needs a kernel with CONFIG_TIME_NS"),
		ability(TCPRepair, tryRepair(), "TCP connections of an app cannot come along without it"),
		ability(SysVIDs, trySysVIDs(), "needs a kernel with CONFIG_CHECKPOINT_RESTORE; programs with System V shared memory cannot come here without it"),
		ability(Overlay, tryOverlay(), "needs Linux 5.11 or newer; files are copied instead"),
	}
	tun, veth := tryTun(), tryVeth()
	all = append(all,
		ability(Tun, tun, tunCure(tun, veth)),
		ability(Veth, veth, ""),
		ability(Fuse, tryOpen("/dev/fuse"), "nothing of hither needs it yet; sudo modprobe fuse, or: sudo chmod 666 /dev/fuse"))
	return all
}

func tunCure(tun, veth error) string {
	if tun != nil && veth == nil {
		return "not needed: a veth pair is used in its place. For speed: sudo chmod 666 /dev/net/tun"
	}
	return "sudo modprobe tun; sudo chmod 666 /dev/net/tun"
}

// trySetTid forks a child with a chosen pid. The child runs no Go: it only exits.
func trySetTid() error {
	tids := [1]int32{4242}
	args := &CloneArgs{ExitSignal: uint64(unix.SIGCHLD), SetTidSize: 1}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&tids)
	args.SetTid = uint64(uintptr(unsafe.Pointer(&tids)))
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), CloneArgsSize, 0)
	if pid == 0 && errno == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	if errno != 0 {
		return fmt.Errorf("clone3: %w", errno)
	}
	if _, err := unix.Wait4(int(pid), nil, 0, nil); err != nil {
		return fmt.Errorf("waiting for the child: %w", err)
	}
	if pid != uintptr(tids[0]) {
		return fmt.Errorf("asked for pid %d, got %d", tids[0], pid)
	}
	return nil
}

// tryTime makes a time namespace for children and sets its clock. It is done on a
// thread that ends.
func tryTime() error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
			done <- fmt.Errorf("unshare: %w", err)
			return
		}
		// /proc is the outer one here, and numbers this thread otherwise.
		self, err := os.Readlink("/proc/thread-self")
		if err != nil {
			done <- err
			return
		}
		done <- os.WriteFile("/proc/"+path.Base(self)+"/timens_offsets", []byte("monotonic 1000 0"), 0)
	}()
	return <-done
}

func tryRepair() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
}

// tryOverlay works in the mount namespace of its own, on a tmpfs over /tmp.
func tryOverlay() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	const at = "/tmp"
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mounting a tmpfs: %w", err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	for _, dir := range []string{"lower", "upper", "work", "all"} {
		if err := os.Mkdir(at+"/"+dir, 0o700); err != nil {
			return err
		}
	}
	err := unix.Mount("overlay", at+"/all", "overlay", 0, "userxattr,lowerdir="+at+"/lower,upperdir="+at+"/upper,workdir="+at+"/work")
	if err != nil {
		return fmt.Errorf("mounting an overlay: %w", err)
	}
	return unix.Unmount(at+"/all", unix.MNT_DETACH)
}

func tryOpen(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func tryTun() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	request, err := unix.NewIfreq("probe%d")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	return unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, request)
}

// tryVeth makes a pair of virtual interfaces by rtnetlink(7) and opens a packet socket.
func tryVeth() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	attribute := func(kind uint16, data []byte) []byte {
		b := binary.LittleEndian.AppendUint16(nil, uint16(4+len(data)))
		b = append(binary.LittleEndian.AppendUint16(b, kind), data...)
		return append(b, make([]byte, -len(b)&3)...)
	}
	body := make([]byte, unix.SizeofIfInfomsg)
	body = append(body, attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, []byte("veth")))...)
	message := binary.LittleEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	message = binary.LittleEndian.AppendUint16(message, unix.RTM_NEWLINK)
	message = binary.LittleEndian.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	message = append(message, make([]byte, 8)...) // sequence, port
	if err := unix.Sendto(fd, append(message, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.LittleEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("an odd answer from rtnetlink")
	}
	if code := int32(binary.LittleEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return fmt.Errorf("making a veth pair: %w", unix.Errno(-code))
	}
	packet, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a packet socket: %w", err)
	}
	return unix.Close(packet)
}
