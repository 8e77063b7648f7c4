package capsule

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"hither/engine/network"
)

// netFor makes the capsule's side of its network, in the new network namespace,
// with capabilities there: at least the loopback. Where no more can be had
// (neither TUN nor veth), the capsule has no network, and why says so.
func netFor() (fd int, kind, why string, err error) {
	if err := loopbackUp(); err != nil {
		return -1, "", "", err
	}
	fd, kind, err = network.Open()
	if err != nil {
		return -1, "", err.Error(), nil
	}
	return fd, kind, "", nil
}

// startNetwork carries the capsule's packets between pid 1's descriptor and the host.
func (k *keeper) startNetwork() error {
	fd, err := pidfdGetfd(k.pidfd, FDNet)
	if err != nil {
		return fmt.Errorf("taking the network from the capsule's pid 1: %w", err)
	}
	go func() {
		// It ends with this process, or when the capsule's network is gone.
		if err := network.Run(context.Background(), fd, k.state.Net); err != nil {
			k.log.Error("network", "error", err)
		}
	}()
	return nil
}

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
