package capsule

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// The two hooks of the capsule's network.

// openNetwork makes the capsule's end of its network. Stage 1 calls it in the
// new network namespace, with capabilities there. It returns a descriptor of
// frames or packets and its kind ("tun", "packet"), or -1 and "" for none.
var openNetwork = func() (fd int, kind string, err error) { return -1, "", nil }

// runNetwork carries packets between that descriptor and the host until ctx ends.
var runNetwork = func(ctx context.Context, fd int, kind string) error { return nil }

// loopbackUp gives the network namespace its loopback.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bringing the loopback up: %w", err)
	}
	return nil
}
