package bridge

import "hither/engine/display/xwire"

// cursors are the pointer's shapes: those that the app's server shows, made
// again on the desktop, by their serial numbers there.
type cursors struct {
	serial uint32 // the present one's
	known  map[uint32]xwire.Cursor
}

// maxCursors bounds what is remembered; animated ones bring new numbers for ever.
const maxCursors = 64

const leftPointer = 68 // in the cursor font

// defaultCursor gives the app's server an arrow where apps say nothing, as
// desktops have, and asks to be told of changes.
func (b *Bridge) defaultCursor() {
	c := b.App
	font, cursor := xwire.NewID[xwire.Font](c), xwire.NewID[xwire.Cursor](c)
	c.OpenFont(font, "cursor")
	c.CreateGlyphCursor(cursor, font, font, leftPointer, leftPointer+1, 0, 0, 0, 0xffff, 0xffff, 0xffff)
	c.ChangeWindowAttributes(c.Root(), xwire.WindowValues{Mask: xwire.CWCursor, Cursor: cursor})
	c.FreeCursor(cursor)
	c.CloseFont(font)
	c.XFixesSelectCursorInput(c.Root(), xwire.XFixesCursorNotifyMaskDisplayCursor)
	b.cursors.serial = 0
	for _, old := range b.cursors.known {
		b.Desk.FreeCursor(old)
	}
	b.cursors.known = map[uint32]xwire.Cursor{}
}

func (b *Bridge) cursorChanged(serial uint32) {
	b.cursors.serial = serial
	if b.over != nil {
		b.showCursor(b.over)
	}
}

// showCursor gives a native window the pointer's present shape.
func (b *Bridge) showCursor(w *window) {
	serial := b.cursors.serial
	if serial == 0 || w.cursor == serial {
		return
	}
	cursor, ok := b.cursors.known[serial]
	if !ok {
		var actual uint32
		if cursor, actual = b.fetchCursor(); cursor == 0 {
			return
		}
		b.cursors.serial, serial = actual, actual
	}
	w.cursor = serial
	b.Desk.ChangeWindowAttributes(w.desk, xwire.WindowValues{Mask: xwire.CWCursor, Cursor: cursor})
}

// fetchCursor makes the present shape on the desktop.
func (b *Bridge) fetchCursor() (xwire.Cursor, uint32) {
	d := b.Desk
	if b.visuals.cursor == 0 {
		return 0, 0
	}
	r, err := b.App.XFixesGetCursorImage()
	if err != nil || r.Width == 0 || r.Height == 0 || len(r.CursorImage) != int(r.Width)*int(r.Height) {
		return 0, 0
	}
	if old, ok := b.cursors.known[r.CursorSerial]; ok {
		return old, r.CursorSerial
	}
	pixmap, gc := xwire.NewID[xwire.Pixmap](d), xwire.NewID[xwire.GContext](d)
	picture, cursor := xwire.NewID[xwire.RenderPicture](d), xwire.NewID[xwire.Cursor](d)
	d.CreatePixmap(32, pixmap, xwire.Drawable(d.Root()), r.Width, r.Height)
	d.CreateGC(gc, xwire.Drawable(pixmap), xwire.GCValues{})
	d.PutImage(xwire.ImageFormatZPixmap, xwire.Drawable(pixmap), gc, r.Width, r.Height, 0, 0, 0, 32, xwire.Uint32s(r.CursorImage...))
	d.RenderCreatePicture(picture, xwire.Drawable(pixmap), b.visuals.cursor, xwire.RenderPictureValues{})
	d.RenderCreateCursor(cursor, picture, r.Xhot, r.Yhot)
	d.RenderFreePicture(picture)
	d.FreeGC(gc)
	d.FreePixmap(pixmap)
	if len(b.cursors.known) >= maxCursors {
		for serial, old := range b.cursors.known {
			d.FreeCursor(old) // windows that show it keep it
			delete(b.cursors.known, serial)
		}
	}
	b.cursors.known[r.CursorSerial] = cursor
	return cursor, r.CursorSerial
}
