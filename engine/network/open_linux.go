package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Kinds of descriptors that Open returns.
const (
	TUN    = "tun"    // IP packets
	Packet = "packet" // Ethernet frames, between fixed addresses
)

// MTU of the capsule's interface: the largest that needs no fragments in the
// stack's buffers. Throughput is a matter of packets, not of bytes.
const MTU = 65520

const (
	device = "hither0"
	outer  = "hither1" // the gateway's end of the veth pair
)

// The network between capsule and gateway.
var (
	Gateway4 = netip.MustParseAddr("10.113.0.1")
	Gateway6 = netip.MustParseAddr("fd68:6974::1")
	Capsule4 = netip.MustParsePrefix("10.113.0.2/24")
	Capsule6 = netip.MustParsePrefix("fd68:6974::2/64")

	capsuleMAC = net.HardwareAddr{0x02, 0x68, 0x69, 0x74, 0, 2}
	gatewayMAC = net.HardwareAddr{0x02, 0x68, 0x69, 0x74, 0, 1}
	outerMAC   = net.HardwareAddr{0x02, 0x68, 0x69, 0x74, 0, 3} // nobody's: the kernel at that end must not feel addressed
)

// Open makes the capsule's side of its network. The caller is in the new
// network namespace and has CAP_NET_ADMIN and CAP_NET_RAW there. The
// descriptor is close-on-exec; it works from anywhere, also in another process
// and after the caller is gone.
func Open() (fd int, kind string, err error) {
	return open(false)
}

func open(noTUN bool) (fd int, kind string, err error) {
	if err := up("lo"); err != nil {
		return -1, "", err
	}
	fd, err = openTUN(device)
	kind = TUN
	if err != nil || noTUN {
		if err == nil {
			unix.Close(fd)
		}
		fd, kind = -1, Packet
		if pairErr := makePair(); pairErr != nil {
			return -1, "", errors.Join(err, pairErr)
		}
	}
	if err := configure(kind); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return -1, "", err
	}
	if kind == Packet {
		if fd, err = openPacket(outer); err != nil {
			return -1, "", err
		}
	}
	return fd, kind, nil
}

func openTUN(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("making a TUN device: %w", err)
	}
	return fd, nil
}

// makePair makes the veth pair. Both ends stay in the capsule's namespace:
// an ordinary user has no rights in any other.
func makePair() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = device, capsuleMAC, MTU
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: outer, PeerHardwareAddr: outerMAC, PeerMTU: MTU, PeerTxQLen: -1}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("making a pair of virtual Ethernet devices: %w", err)
	}
	inner, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("finding %s: %w", device, err)
	}
	// Else segments would arrive in bundles that no IP packet can hold.
	if err := netlink.LinkSetGSOMaxSegs(inner, 1); err != nil {
		return fmt.Errorf("forbidding segment offload: %w", err)
	}
	// The other end has no business of its own.
	sysctl("ipv6/conf/"+outer+"/disable_ipv6", "1")
	return up(outer)
}

// sysctl sets what only saves idle chatter, so it may fail.
func sysctl(name, value string) {
	os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("bringing up %s: %w", name, err)
	}
	return nil
}

// configure gives the capsule's interface its addresses and routes.
func configure(kind string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("finding %s: %w", device, err)
	}
	sysctl("ipv6/conf/"+device+"/accept_ra", "0")
	netlink.LinkSetIP6AddrGenMode(link, 1) // none
	if kind == Packet {
		// Nobody is there to answer: all frames go to the gateway.
		if err := netlink.LinkSetARPOff(link); err != nil {
			return fmt.Errorf("switching ARP off on %s: %w", device, err)
		}
	}
	if err := netlink.LinkSetMTU(link, MTU); err != nil {
		return fmt.Errorf("setting the MTU of %s: %w", device, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bringing up %s: %w", device, err)
	}
	for _, side := range []struct {
		own  netip.Prefix
		gate netip.Addr
		any  string
	}{{Capsule4, Gateway4, "0.0.0.0/0"}, {Capsule6, Gateway6, "::/0"}} {
		if side.own.Addr().Is6() && !ipv6Available() {
			continue
		}
		addr, err := netlink.ParseAddr(side.own.String())
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("giving %s the address %s: %w", device, side.own, err)
		}
		if side.own.Addr().Is6() {
			// The kernel adds this route itself, but at its leisure: until
			// then it drops what comes for the address.
			local := &netlink.Route{
				LinkIndex: link.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL,
				Dst: &net.IPNet{IP: side.own.Addr().AsSlice(), Mask: net.CIDRMask(128, 128)},
			}
			if err := netlink.RouteAdd(local); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("routing %s to %s: %w", side.own.Addr(), device, err)
			}
		}
		_, all, err := net.ParseCIDR(side.any)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: all, Gw: net.IP(side.gate.AsSlice())}); err != nil {
			return fmt.Errorf("routing through %s: %w", side.gate, err)
		}
	}
	return nil
}

// ipv6Available tells whether the kernel has IPv6 and it is not switched off.
func ipv6Available() bool {
	off, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + device + "/disable_ipv6")
	if err != nil {
		_, err = os.Stat("/proc/net/if_inet6")
		return err == nil
	}
	return strings.TrimSpace(string(off)) == "0"
}

// openPacket opens a socket that takes and gives the frames of an interface.
func openPacket(name string) (int, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return -1, fmt.Errorf("finding %s: %w", name, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening a packet socket: %w", err)
	}
	// As much as the host allows: what does not fit is lost, and sent again.
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
	unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	all := uint16(unix.ETH_P_ALL)
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: link.Attrs().Index})
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("binding a packet socket to %s: %w", name, err)
	}
	return fd, nil
}
