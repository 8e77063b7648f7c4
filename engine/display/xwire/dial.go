package xwire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// Dial connects to an X server of this host by its display's name, such as :0,
// :1.0 or unix:0, empty for $DISPLAY, with the cookie from an authority file,
// empty for $XAUTHORITY or ~/.Xauthority. The context bounds the opening only.
func Dial(ctx context.Context, display, authority string) (*Conn, error) {
	if display == "" {
		if display = os.Getenv("DISPLAY"); display == "" {
			return nil, errors.New("no display: $DISPLAY is not set")
		}
	}
	number, screen, err := parseDisplay(display)
	if err != nil {
		return nil, err
	}
	auth, err := readAuth(authority, number)
	if err != nil {
		return nil, fmt.Errorf("reading the cookie for the display %s: %w", display, err)
	}
	// The path first: unlike the abstract name it cannot be taken by others
	// while the server is away.
	path := "/tmp/.X11-unix/X" + strconv.Itoa(number)
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		var abstract error
		if socket, abstract = dialer.DialContext(ctx, "unix", "@"+path); abstract != nil {
			return nil, fmt.Errorf("connecting to the display %s: %w", display, err)
		}
	}
	c, err := NewConn(ctx, socket, auth)
	if err != nil {
		return nil, fmt.Errorf("display %s: %w", display, err)
	}
	if screen >= len(c.setup.Roots) {
		c.Close()
		return nil, fmt.Errorf("the display %s has no screen %d", display, screen)
	}
	c.screen = screen
	return c, nil
}

// DialPath connects to an X server by its socket's path, without a cookie, such
// as /proc/PID/root/tmp/.X11-unix/X0.
func DialPath(ctx context.Context, path string) (*Conn, error) {
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connecting to the X server at %s: %w", path, err)
	}
	return NewConn(ctx, socket, Auth{})
}

// parseDisplay takes a display's name apart.
func parseDisplay(s string) (display, screen int, err error) {
	host, rest, ok := strings.Cut(s, ":")
	bad := fmt.Errorf("the display %q: wanted is a name such as :0, on this host", s)
	if !ok || host != "" && host != "unix" {
		return 0, 0, bad
	}
	number, screenText, hasScreen := strings.Cut(rest, ".")
	d, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return 0, 0, bad
	}
	var n uint64
	if hasScreen {
		if n, err = strconv.ParseUint(screenText, 10, 8); err != nil {
			return 0, 0, bad
		}
	}
	return int(d), int(n), nil
}
