package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"os"

	"hither/engine/display/xwire"
)

// What the lab itself does as a client of its desktops.

// openDesktop connects to the desktop of the host that this process is on.
func openDesktop(extensions ...*xwire.Extension) (*xwire.Conn, error) {
	display := os.Getenv("DISPLAY")
	if display == "" {
		return nil, errNoDesktop
	}
	ctx, cancel := context.WithTimeout(context.Background(), desktopWait)
	defer cancel()
	x, err := xwire.Dial(ctx, display, "")
	if err != nil {
		return nil, fmt.Errorf("opening display %s: %w: `hither-lab start HOST desktop` starts it again if it ended", display, err)
	}
	if err := x.Use(extensions...); err != nil {
		x.Close()
		return nil, fmt.Errorf("opening display %s: %w", display, err)
	}
	return x, nil
}

const managerProperty = "_NET_SUPPORTING_WM_CHECK"

// managed tells whether a window manager is at work: its window, named on the root, names itself. What
// a dead one left on the root names a window that is gone, or another's.
func managed(x *xwire.Conn) (bool, error) {
	window, err := managerIn(x, x.Root())
	if window == 0 || err != nil {
		return false, err
	}
	self, err := managerIn(x, window)
	if errors.Is(err, xwire.ErrWindow) {
		return false, nil
	}
	return self == window, err
}

// managerIn is the window that a window's property names as the manager's; 0 if none.
func managerIn(x *xwire.Conn, window xwire.Window) (xwire.Window, error) {
	property, err := x.Atom(managerProperty)
	if err != nil {
		return 0, err
	}
	value, err := x.GetProperty(false, window, property, xwire.AtomWindow, 0, 1)
	if err != nil {
		return 0, err
	}
	if ids := xwire.ToUint32s(value.Value); len(ids) == 1 {
		return xwire.Window(ids[0]), nil
	}
	return 0, nil
}

// waitManaged returns when a window manager is at work.
func waitManaged(ctx context.Context, x *xwire.Conn) error {
	x.ChangeWindowAttributes(x.Root(), xwire.WindowValues{Mask: xwire.CWEventMask, EventMask: xwire.EventMaskPropertyChange})
	for {
		if ok, err := managed(x); ok || err != nil {
			return err
		}
		// Any event may be that of the property: look again.
		if _, err := x.NextEvent(ctx); err != nil {
			return err
		}
	}
}

// paintRoot gives the root window one colour, 0xRRGGBB.
func paintRoot(x *xwire.Conn, colour uint32) error {
	x.ChangeWindowAttributes(x.Root(), xwire.WindowValues{Mask: xwire.CWBackPixel, BackgroundPixel: colour})
	return x.ClearAreaChecked(false, x.Root(), 0, 0, 0, 0)
}

// picture is what the display shows, without the pointer.
func picture(x *xwire.Conn) (*image.RGBA, error) {
	screen := x.Screen()
	got, err := x.GetImage(xwire.ImageFormatZPixmap, xwire.Drawable(screen.Root), 0, 0, screen.WidthInPixels, screen.HeightInPixels, ^uint32(0))
	if err != nil {
		return nil, err
	}
	img := image.NewRGBA(image.Rect(0, 0, int(screen.WidthInPixels), int(screen.HeightInPixels)))
	// The lab's servers have four bytes to a pixel: blue, green, red and nothing.
	if screen.RootDepth != 24 || x.Setup().ImageByteOrder != xwire.ImageOrderLSBFirst || len(got.Data) < len(img.Pix) {
		return nil, fmt.Errorf("a screen of depth %d that sends %d bytes is not a lab's", screen.RootDepth, len(got.Data))
	}
	for i := 0; i < len(img.Pix); i += 4 {
		img.Pix[i], img.Pix[i+1], img.Pix[i+2], img.Pix[i+3] = got.Data[i+2], got.Data[i+1], got.Data[i], 0xff
	}
	return img, nil
}
