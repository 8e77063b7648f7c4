package xwire_test

import (
	"context"
	"fmt"
	"os"

	"hither/engine/display/xwire"
)

// What a program draws in one server, seen from outside: each window's picture
// lives off the screen, and damage says what has changed.
func ExampleDialPath() {
	ctx := context.Background()
	c, err := xwire.DialPath(ctx, "/proc/1234/root/tmp/.X11-unix/X0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	if err := c.Use(xwire.Composite, xwire.Damage, xwire.XFixes, xwire.Shm); err != nil {
		fmt.Println(err)
		return
	}
	c.CompositeRedirectSubwindows(c.Root(), xwire.CompositeRedirectManual)
	c.ChangeWindowAttributes(c.Root(), xwire.WindowValues{
		Mask:      xwire.CWEventMask,
		EventMask: xwire.EventMaskSubstructureNotify | xwire.EventMaskSubstructureRedirect,
	})
	memory, err := os.Open("/dev/shm/picture")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer memory.Close()
	segment := xwire.NewID[xwire.ShmSeg](c)
	c.ShmAttachFd(segment, memory, false)

	region := xwire.NewID[xwire.XFixesRegion](c)
	c.XFixesCreateRegion(region, nil)
	for {
		ev, err := c.NextEvent(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		switch ev := ev.(type) {
		case *xwire.MapRequestEvent:
			c.DamageCreate(xwire.NewID[xwire.DamageDamage](c), xwire.Drawable(ev.Window), xwire.DamageReportLevelNonEmpty)
			c.MapWindow(ev.Window)
		case *xwire.DamageNotifyEvent:
			c.DamageSubtract(ev.Damage, xwire.XFixesRegionNone, region)
			changed, err := c.XFixesFetchRegion(region)
			if err != nil {
				continue // the window has gone
			}
			for _, r := range changed.Rectangles {
				image := c.ShmGetImageAsync(ev.Drawable, r.X, r.Y, r.Width, r.Height, 0xffffffff, uint8(xwire.ImageFormatZPixmap), segment, 0)
				if _, err := image.Wait(); err == nil {
					fmt.Println(r)
				}
			}
		case *xwire.Error:
			fmt.Println(ev)
		}
	}
}
