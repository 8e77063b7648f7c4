package handle

import (
	"strings"

	"golang.org/x/sys/unix"
)

// seen is what can be known of a description without using it.
type seen struct {
	link string // of /proc/PID/fd/FD
	st   unix.Stat_t
	fs   int64 // f_type of statfs(2)
	// socket names a socket's family, type and protocol; asked only for sockets.
	socket func() (domain, kind, protocol int, err error)
}

// Magic numbers of file systems, linux/magic.h, that x/sys lacks.
const (
	magicMqueue = 0x19800202
	magicPidfs  = 0x50494446
)

// anonymous are the inodes without a file system that can be carried.
var anonymous = map[string]string{
	"eventfd": kindEventfd, "eventpoll": kindEpoll, "timerfd": kindTimerfd, "signalfd": kindSignalfd,
	"inotify": kindInotify, "pidfd": kindPidfd,
}

// refusedAnonymous says what the others are. Names as in the kernel's calls of
// anon_inode_getfile and its like.
var refusedAnonymous = map[string]string{
	"io_uring": "an io_uring", "perf_event": "a performance counter (perf_event_open)",
	"userfaultfd": "a userfaultfd", "fanotify": "a fanotify group", "bpf-map": "a BPF map", "bpf-prog": "a BPF program",
	"bpf_link": "a BPF link", "btf": "BPF type information", "fscontext": "a file system being mounted",
	"landlock-ruleset": "a Landlock rule set", "seccomp notify": "a seccomp listener", "kvm-vm": "a virtual machine (KVM)",
	"kvm-vcpu": "a virtual processor (KVM)", "vfio-device": "a device passed through (VFIO)", "sync_file": "a fence of a graphics driver",
	"secretmem": "secret memory (memfd_secret)", "mount": "a detached mount",
}

var families = map[int]string{
	unix.AF_PACKET: "a packet socket", unix.AF_VSOCK: "a socket to a hypervisor (vsock)",
	unix.AF_ALG: "a socket of the kernel's crypto (AF_ALG)", unix.AF_BLUETOOTH: "a Bluetooth socket", unix.AF_CAN: "a CAN socket",
	unix.AF_XDP: "an XDP socket", unix.AF_TIPC: "a TIPC socket", unix.AF_KEY: "a key management socket", unix.AF_RDS: "an RDS socket",
	unix.AF_SMC: "an SMC socket",
}

// classify finds the kind of a description, or says why there is none.
func classify(s *seen) (string, error) {
	if name, ok := strings.CutPrefix(s.link, "anon_inode:"); ok {
		name = strings.Trim(name, "[]")
		if kind, ok := anonymous[name]; ok {
			return kind, nil
		}
		if what, ok := refusedAnonymous[name]; ok {
			return "", refuse(cureClose, "%s", what)
		}
		return "", refuse(cureClose, "a kernel object that hither does not know (%s)", name)
	}
	switch s.st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		return classifyFile(s)
	case unix.S_IFCHR:
		return classifyDevice(s)
	case unix.S_IFIFO:
		if strings.HasPrefix(s.link, "pipe:[") {
			return kindPipe, nil
		}
		return kindFifo, nil
	case unix.S_IFSOCK:
		return classifySocket(s)
	case unix.S_IFBLK:
		return "", refuse(cureClose, "the block device %s", s.link)
	}
	return "", refuse(cureClose, "something hither does not know (%s)", s.link)
}

func classifyFile(s *seen) (string, error) {
	switch s.fs {
	case unix.NSFS_MAGIC:
		return "", refuse(cureClose, "a namespace (%s)", s.link)
	case magicPidfs:
		return kindPidfd, nil
	case magicMqueue:
		return "", refuse(cureClose, "the POSIX message queue %s", s.link)
	case unix.HUGETLBFS_MAGIC:
		return "", refuse("start the app without huge pages", "a file of huge pages (%s)", s.link)
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC:
		return kindKernelFile, nil
	case unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC,
		unix.BPF_FS_MAGIC, unix.SELINUX_MAGIC, unix.SECRETMEM_MAGIC, unix.DMA_BUF_MAGIC, unix.BINDERFS_SUPER_MAGIC:
		return "", refuse(cureClose, "%s, which belongs to this machine's kernel", s.link)
	}
	switch s.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return kindDirectory, nil
	case unix.S_IFREG:
		if strings.HasPrefix(s.link, "/memfd:") && s.fs == unix.TMPFS_MAGIC {
			return kindMemfd, nil
		}
	}
	return kindFile, nil
}

// Numbers of Documentation/admin-guide/devices.txt.
const (
	majorMemory  = 1
	majorTTY     = 4
	majorTTYAux  = 5
	majorPtyLow  = 136
	majorPtyHigh = 143
)

var harmless = map[uint32]bool{3: true, 5: true, 7: true, 8: true, 9: true} // null zero full random urandom

var deviceWords = map[uint32]string{
	10: "the device", 13: "an input device", 14: "a sound device", 29: "a frame buffer", 81: "a camera or video device",
	116: "a sound device", 180: "a USB device", 189: "a USB device", 195: "an NVIDIA graphics device", 226: "a graphics device", 235: "an AMD compute device",
}

func classifyDevice(s *seen) (string, error) {
	major, minor := unix.Major(s.st.Rdev), unix.Minor(s.st.Rdev)
	switch {
	case major == majorMemory && harmless[minor]:
		return kindDevice, nil
	case major == majorTTYAux && minor == 0: // /dev/tty
		return kindSlave, nil
	case major == majorTTYAux && minor == 2:
		return kindMaster, nil
	case major >= majorPtyLow && major <= majorPtyHigh:
		return kindSlave, nil
	case major == majorTTY || major == majorTTYAux:
		return "", refuse("start the app with hither run in a terminal window", "the console or serial line %s", s.link)
	case major == 10 && minor == 200:
		return "", refuse(cureClose, "a network tunnel (%s)", s.link)
	case major == 10 && minor == 229:
		return "", refuse(cureClose, "a FUSE file system it serves (%s)", s.link)
	}
	word := deviceWords[major]
	if word == "" || word == "the device" {
		return "", refuse(cureClose, "the device %s", s.link)
	}
	return "", refuse(cureClose, "%s (%s)", word, s.link)
}

func classifySocket(s *seen) (string, error) {
	domain, kind, protocol, err := s.socket()
	if err != nil {
		return "", refuse(cureClose, "a socket that hither cannot look into (%v)", err)
	}
	switch domain {
	case unix.AF_UNIX:
		return kindUnix, nil
	case unix.AF_INET, unix.AF_INET6:
		switch {
		case kind == unix.SOCK_STREAM && (protocol == unix.IPPROTO_TCP || protocol == protocolMPTCP):
			return kindTCP, nil
		case kind == unix.SOCK_DGRAM && protocol == unix.IPPROTO_UDP:
			return kindUDP, nil
		case kind == unix.SOCK_RAW:
			return "", refuse(cureClose, "a raw network socket")
		case kind == unix.SOCK_DGRAM && (protocol == unix.IPPROTO_ICMP || protocol == unix.IPPROTO_ICMPV6):
			return "", refuse("let the ping end first", "a ping socket")
		}
		return "", refuse(cureClose, "a network socket of protocol %d", protocol)
	}
	if domain == unix.AF_NETLINK {
		if !carriedNetlink[protocol] {
			return "", refuse(cureClose, "a netlink socket of protocol %d", protocol)
		}
		return kindNetlink, nil
	}
	if what, ok := families[domain]; ok {
		return "", refuse(cureClose, "%s", what)
	}
	return "", refuse(cureClose, "a socket of address family %d", domain)
}
