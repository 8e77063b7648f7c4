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
	b.forgetCursors()
}

// forgetCursors is for those that are no longer of the right size. Windows that show
// one keep it.
func (b *Bridge) forgetCursors() {
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
	picture, cursor := xwire.NewID[xwire.RenderPicture](d), xwire.NewID[xwire.Cursor](d)
	pixmap, gc := xwire.NewID[xwire.Pixmap](d), xwire.NewID[xwire.GContext](d)
	d.CreatePixmap(32, pixmap, xwire.Drawable(d.Root()), r.Width, r.Height)
	d.CreateGC(gc, xwire.Drawable(pixmap), xwire.GCValues{})
	d.PutImage(xwire.ImageFormatZPixmap, xwire.Drawable(pixmap), gc, r.Width, r.Height, 0, 0, 0, 32, xwire.Uint32s(r.CursorImage...))
	if b.scale != 1 {
		w, h := clipSize(b.scale.size(int(r.Width))), clipSize(b.scale.size(int(r.Height)))
		from, larger := b.scaledPicture(xwire.Drawable(pixmap), b.visuals.cursor), xwire.NewID[xwire.Pixmap](d)
		d.CreatePixmap(32, larger, xwire.Drawable(d.Root()), w, h)
		d.RenderCreatePicture(picture, xwire.Drawable(larger), b.visuals.cursor, xwire.RenderPictureValues{})
		d.RenderComposite(xwire.RenderPictOpSrc, from, 0, picture, 0, 0, 0, 0, 0, 0, w, h)
		d.RenderFreePicture(from)
		d.FreePixmap(larger)
		r.Xhot, r.Yhot = uint16(b.scale.out(int(r.Xhot))), uint16(b.scale.out(int(r.Yhot)))
	} else {
		d.RenderCreatePicture(picture, xwire.Drawable(pixmap), b.visuals.cursor, xwire.RenderPictureValues{})
	}
	d.RenderCreateCursor(cursor, picture, r.Xhot, r.Yhot)
	d.RenderFreePicture(picture)
	d.FreeGC(gc)
	d.FreePixmap(pixmap)
	if len(b.cursors.known) >= maxCursors {
		b.forgetCursors()
	}
	b.cursors.known[r.CursorSerial] = cursor
	return cursor, r.CursorSerial
}
