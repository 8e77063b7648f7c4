// Package twonets gives a test two network namespaces, joined by a cable that
// can be pulled. It is for tests only.
//
// In a nutshell: a test begins with
//
//	if !twonets.Here(t) {
//		return
//	}
//	n := twonets.New(t)
//
// Root makes namespaces in this process; for an ordinary user Here runs the
// test once more, in a child with a user namespace of its own. A socket belongs
// to the namespace of the thread that made it, whoever uses it later, so only
// the making needs to run inside of Do.
package twonets

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const childMark = "HITHER_TWONETS_CHILD"

// Here says whether to go on with the test in this process. If not, it has
// run elsewhere and t knows the result.
func Here(t *testing.T) bool {
	t.Helper()
	if os.Getenv(childMark) != "" || mayMake() == nil {
		return true
	}
	c := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=120s")
	c.Env = append(os.Environ(), childMark+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := c.CombinedOutput()
	switch {
	case err == nil:
		t.Logf("in a user namespace:\n%s", out)
	case errors.As(err, new(*exec.ExitError)):
		t.Errorf("in a user namespace: %v\n%s", err, out)
	default:
		t.Skipf("needs a user namespace of its own, and this machine gives none: %v", err)
	}
	return false
}

// mayMake tries what New needs, on a thread that ends right after.
func mayMake() error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		result <- unix.Unshare(unix.CLONE_NEWNET)
	}()
	return <-result
}

// Nets are two namespaces, 0 and 1, each with one interface "cable".
type Nets struct {
	t  *testing.T
	ns [2]netns.NsHandle
	at [2]*netlink.Handle
}

// New makes the two, with addresses Address(0) and Address(1).
func New(t *testing.T) *Nets {
	t.Helper()
	n := &Nets{t: t}
	for i := range n.ns {
		made := make(chan error)
		go func() {
			runtime.LockOSThread() // the thread ends with this goroutine
			ns, err := netns.New()
			n.ns[i] = ns
			made <- err
		}()
		n.must("making a network namespace", <-made)
		t.Cleanup(func() { n.ns[i].Close() })
		h, err := netlink.NewHandleAt(n.ns[i], unix.NETLINK_ROUTE)
		n.must("opening netlink", err)
		t.Cleanup(h.Close)
		n.at[i] = h
	}
	n.must("making a cable", n.at[0].LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: "cable"},
		PeerName:      "cable",
		PeerNamespace: netlink.NsFd(n.ns[1]),
	}))
	for i := range n.ns {
		n.SetAddress(i, Address(i))
		lo, err := n.at[i].LinkByName("lo")
		n.must("finding lo", err)
		n.must("setting lo up", n.at[i].LinkSetUp(lo))
		n.must("setting a link up", n.at[i].LinkSetUp(n.link(i)))
	}
	return n
}

// Address is that of side i (0 or 1) at the beginning.
func Address(i int) string { return fmt.Sprintf("10.77.0.%d", i+1) }

// Do runs f on a thread in namespace i.
func (n *Nets) Do(i int, f func()) {
	n.t.Helper()
	done := make(chan error)
	go func() {
		err := errors.New("the test was ended inside of Do")
		defer func() { done <- err }() // f may call t.Fatal
		runtime.LockOSThread()
		if err = netns.Set(n.ns[i]); err != nil {
			return
		}
		err = errors.New("the test was ended inside of Do")
		f()
		err = nil
	}()
	n.must("running in a namespace", <-done)
}

// Down pulls the cable at side i: no carrier, no routes, on both sides.
func (n *Nets) Down(i int) {
	n.t.Helper()
	n.must("setting a link down", n.at[i].LinkSetDown(n.link(i)))
}

// Up plugs it in again.
func (n *Nets) Up(i int) {
	n.t.Helper()
	n.must("setting a link up", n.at[i].LinkSetUp(n.link(i)))
}

// Spare lays a second cable, with addresses SpareAddress(0) and SpareAddress(1).
func (n *Nets) Spare() {
	n.t.Helper()
	n.must("making a cable", n.at[0].LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: "spare"},
		PeerName:      "spare",
		PeerNamespace: netlink.NsFd(n.ns[1]),
	}))
	for i := range n.ns {
		link, err := n.at[i].LinkByName("spare")
		n.must("finding the spare cable", err)
		n.must("adding an address", n.at[i].AddrAdd(link, &netlink.Addr{
			IPNet: &net.IPNet{IP: net.ParseIP(SpareAddress(i)), Mask: net.CIDRMask(24, 32)}}))
		n.must("setting a link up", n.at[i].LinkSetUp(link))
	}
}

// SpareAddress is that of side i (0 or 1) on the second cable.
func SpareAddress(i int) string { return fmt.Sprintf("10.78.0.%d", i+1) }

// SetAddress takes all IPv4 addresses of side i away and gives it this one, or
// none: then only IPv6 with addresses of the link is left.
func (n *Nets) SetAddress(i int, address string) {
	n.t.Helper()
	link := n.link(i)
	old, err := n.at[i].AddrList(link, netlink.FAMILY_V4)
	n.must("listing addresses", err)
	for _, a := range old {
		n.must("removing an address", n.at[i].AddrDel(link, &a))
	}
	if address == "" {
		return
	}
	n.must("adding an address", n.at[i].AddrAdd(link, &netlink.Addr{
		IPNet: &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(24, 32)}}))
}

func (n *Nets) link(i int) netlink.Link {
	n.t.Helper()
	link, err := n.at[i].LinkByName("cable")
	n.must("finding the cable", err)
	return link
}

func (n *Nets) must(what string, err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatalf("%s: %v", what, err)
	}
}
