package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The switch is a bridge in the switch room's network namespace. Each host's cable is a veth pair:
// `port-a` at the switch, eth0 at the host. All shaping and cutting is done at the port, where no
// process of a host can see or undo it.

const bridgeName = "switch"

func portName(host string) string { return "port-" + host }

func makeSwitch() error {
	// The switch itself has no addresses: it must not answer for a host that is cut off.
	for _, which := range []string{"default", "all"} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("setting up the switch: %w", err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	snooping := false // nothing here asks who listens, and mDNS must get through at once
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	err := netlink.LinkAdd(bridge)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return fmt.Errorf("making the switch: this kernel has no bridge (CONFIG_BRIDGE): `modprobe bridge` as root")
	}
	if err != nil {
		return fmt.Errorf("making the switch: %w", err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("switching the switch on: %w", err)
	}
	return nil
}

// layCable joins the network namespace of a warden to the switch.
func layCable(number, pid int) error {
	host := hostName(number)
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("finding the switch: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = portName(host)
	attrs.MasterIndex = bridge.Attrs().Index
	attrs.Flags = net.FlagUp
	cable := &netlink.Veth{
		LinkAttrs: attrs, PeerName: hostIface, PeerNamespace: netlink.NsPid(pid),
		PeerHardwareAddr: net.HardwareAddr{0x02, 0x68, 0x69, 0x74, 0x68, byte(number)},
	}
	err = netlink.LinkAdd(cable)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return fmt.Errorf("laying the cable of host %s: this kernel has no veth (CONFIG_VETH): `modprobe veth` as root", host)
	}
	if err != nil {
		return fmt.Errorf("laying the cable of host %s: %w", host, err)
	}
	if err := netlink.LinkSetUp(cable); err != nil {
		return fmt.Errorf("switching the port of host %s on: %w", host, err)
	}
	return nil
}

// plugIn is the host's side: loopback and eth0 come up with the host's addresses.
func plugIn(h hostSpec) error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("switching the host's loopback on: %w", err)
	}
	return setInterface(h, true)
}

// setInterface switches the host's eth0 on, with its addresses, or off.
func setInterface(h hostSpec, on bool) error {
	eth, err := netlink.LinkByName(hostIface)
	if err != nil {
		return fmt.Errorf("finding the host's %s: %w", hostIface, err)
	}
	if !on {
		if err := netlink.LinkSetDown(eth); err != nil {
			return fmt.Errorf("switching the host's %s off: %w", hostIface, err)
		}
		return nil
	}
	if err := netlink.LinkSetUp(eth); err != nil {
		return fmt.Errorf("switching the host's %s on: %w", hostIface, err)
	}
	own := h.own()
	v4 := &netlink.Addr{IPNet: &net.IPNet{IP: own.Addr.AsSlice(), Mask: net.CIDRMask(24, 32)}}
	// Nobody else can have our address: do not lose a second on asking.
	v6 := &netlink.Addr{IPNet: &net.IPNet{IP: own.Addr6.AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
	if err := netlink.AddrReplace(eth, v4); err != nil {
		return fmt.Errorf("giving the host its address: %w", err)
	}
	if err := netlink.AddrReplace(eth, v6); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("giving the host its IPv6 address: %w", err)
	}
	return nil
}

// setAddress moves the host to the addresses of another number, as another network would give it.
// What it had is gone at once; link-local addresses stay.
func (w *warden) setAddress(args []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := 0
	if len(args) > 0 {
		n, err := strconv.Atoi(args[0])
		if err != nil || n <= maxHosts || n > 254 {
			return fmt.Errorf("address %q: a number from %d to 254, which no host of a lab has", args[0], maxHosts+1)
		}
		at = n
	}
	eth, err := netlink.LinkByName(hostIface)
	if err != nil {
		return fmt.Errorf("finding the host's %s: %w", hostIface, err)
	}
	old, err := netlink.AddrList(eth, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("listing the host's addresses: %w", err)
	}
	for _, a := range old {
		if a.IP.IsLinkLocalUnicast() {
			continue
		}
		if err := netlink.AddrDel(eth, &a); err != nil {
			return fmt.Errorf("taking the host's address %s away: %w", a.IP, err)
		}
	}
	w.spec.At = at
	if w.hardCut {
		return nil // heal gives it its addresses
	}
	return setInterface(w.spec, true)
}

// setCut takes the port out of the switch, or puts it back: the host's packets get lost without a
// word, and its interface shows nothing.
func (r *switchRoom) setCut(h *roomHost, cut bool) error {
	name := portName(h.name)
	if h.relay != nil {
		name = innerName(h.name)
	}
	port, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding the port of host %s: %w", h.name, err)
	}
	if cut {
		err = netlink.LinkSetNoMaster(port)
	} else {
		var bridge netlink.Link
		if bridge, err = netlink.LinkByName(bridgeName); err == nil {
			err = netlink.LinkSetMaster(port, bridge)
		}
	}
	if err != nil {
		return fmt.Errorf("cutting or healing the link of host %s: %w", h.name, err)
	}
	h.link.Cut = cut
	return nil
}

// shape replaces how the way to a host is shaped. If that fails, it is unshaped.
func (r *switchRoom) shape(h *roomHost, s shape) error {
	fail := func(err error) error { return fmt.Errorf("shaping the link of host %s: %w", h.name, err) }
	port, err := netlink.LinkByName(portName(h.name))
	if err != nil {
		return fail(err)
	}
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return fail(err)
	}
	if h.relay != nil {
		err := h.relay.close(h.name, bridge, port, h.link.Cut)
		h.relay = nil
		if err != nil {
			return fail(err)
		}
	}
	h.link.shape = shape{}
	if err := clearShape(port); err != nil {
		return fail(err)
	}
	err = addShape(port, s)
	if errors.Is(err, errNoNetem) {
		// The kernel can hold the rate, the relay does the rest.
		if err = addShape(port, shape{Rate: s.Rate}); err == nil {
			h.relay, err = openRelay(h.name, s, bridge, port, h.link.Cut)
		}
	}
	if err != nil {
		clearShape(port)
		return fail(err)
	}
	h.link.shape = s
	return nil
}

var errNoNetem = errors.New("this kernel has no queueing discipline \"netem\"")

func clearShape(port netlink.Link) error {
	old, err := netlink.QdiscList(port)
	if err != nil {
		return fmt.Errorf("listing its queueing disciplines: %w", err)
	}
	for _, q := range old {
		if a := q.Attrs(); a.Parent == netlink.HANDLE_ROOT && a.Handle != 0 {
			if err := netlink.QdiscDel(q); err != nil {
				return fmt.Errorf("removing the old shape: %w", err)
			}
		}
	}
	return nil
}

// maxQueue is how long a packet may wait at a full link: the memory of a home router.
const maxQueue = 50 * time.Millisecond

func addShape(port netlink.Link, s shape) error {
	root := netlink.QdiscAttrs{LinkIndex: port.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
	if s.Delay != 0 || s.Loss != 0 {
		err := netlink.QdiscAdd(netlink.NewNetem(root, netlink.NetemQdiscAttrs{
			Latency: uint32(s.Delay), Loss: float32(s.Loss), Limit: 100_000,
		}))
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EOPNOTSUPP) {
			return errNoNetem
		}
		if err != nil {
			return fmt.Errorf("setting the queueing discipline \"netem\": %w", err)
		}
		root.Parent = root.Handle | 1
		root.Handle = netlink.MakeHandle(2, 0)
	}
	if s.Rate == 0 {
		return nil
	}
	bytes := s.Rate / 8
	burst := max(bytes/250, 64<<10) // what arrives in a tick, and no less than one GSO packet
	err := netlink.QdiscAdd(&netlink.Tbf{
		QdiscAttrs: root, Rate: bytes,
		Buffer: netlink.Xmittime(bytes, uint32(burst)),
		Limit:  uint32(min(burst+bytes*uint64(maxQueue)/uint64(time.Second), 1<<31)),
	})
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EOPNOTSUPP) {
		return errors.New("this kernel has no queueing discipline \"tbf\", which --rate needs: try `modprobe sch_tbf` as root")
	}
	if err != nil {
		return fmt.Errorf("setting the queueing discipline \"tbf\": %w", err)
	}
	return nil
}

var rateUnits = []struct {
	name string
	bits float64
}{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}

// parseRate reads 300mbit, 1.5gbit and the like; "0" and "" are no limit.
func parseRate(text string) (uint64, error) {
	if text == "" || text == "0" {
		return 0, nil
	}
	for _, u := range rateUnits {
		if number, ok := strings.CutSuffix(strings.ToLower(text), u.name); ok {
			v, err := strconv.ParseFloat(number, 64)
			if err != nil || v*u.bits < 8000 || v*u.bits > 400e9 {
				break
			}
			return uint64(v * u.bits), nil
		}
	}
	return 0, fmt.Errorf("--rate %q: say it as 300mbit, 1gbit or 64kbit, from 8kbit to 400gbit", text)
}

func formatRate(bits uint64) string {
	for _, u := range rateUnits {
		if float64(bits) >= u.bits {
			return strconv.FormatFloat(float64(bits)/u.bits, 'g', 4, 64) + u.name
		}
	}
	return "0bit"
}
