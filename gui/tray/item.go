package tray

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"

	"hither/gui/integration"
)

// https://www.freedesktop.org/wiki/Specifications/StatusNotifierItem, as all desktops speak it.
const (
	itemPath     = dbus.ObjectPath("/StatusNotifierItem")
	itemIface    = "org.kde.StatusNotifierItem"
	watcherName  = "org.kde.StatusNotifierWatcher"
	watcherPath  = dbus.ObjectPath("/StatusNotifierWatcher")
	watcherIface = "org.kde.StatusNotifierWatcher"
	busName      = "org.freedesktop.DBus"
	busPath      = dbus.ObjectPath("/org/freedesktop/DBus")
	propsIface   = "org.freedesktop.DBus.Properties"
)

// askTime is how long a watcher may take to answer.
const askTime = 10 * time.Second

// Look is what there is to see.
type Look struct {
	State   State
	Title   string // of the tooltip
	Text    string // below it, a line for each thing
	Menu    []Item
	Opening func() // when the menu is about to be shown
}

// State is what the icon says.
type State string

const (
	Idle      State = "idle"
	Moving    State = "moving"    // an app moves
	Attention State = "attention" // a person is asked something
)

// Options of a Tray.
type Options struct {
	Activate func()            // the icon was clicked
	OnHosted func(hosted bool) // a desktop shows the icon now, or none does any more
	IconDir  string            // a folder of ours for the icons
}

// Tray is the icon. It lives from Open to Close.
type Tray struct {
	o    Options
	conn *dbus.Conn
	name string // on the bus
	menu *menu
	done chan struct{}

	mu     sync.Mutex
	look   Look
	hosted bool
	closed bool
}

// Open puts the icon onto the session bus. Without a bus there is no tray.
func Open(ctx context.Context, o Options) (*Tray, error) {
	conn, err := integration.SessionBus()
	if err != nil {
		return nil, fmt.Errorf("looking for the desktop's tray: %w", err)
	}
	t := &Tray{o: o, conn: conn, done: make(chan struct{}), look: Look{State: Idle, Title: "hither"},
		name: fmt.Sprintf("org.kde.StatusNotifierItem-%d-1", os.Getpid())}
	t.menu = newMenu(func(signal string, args ...any) {
		conn.Emit(menuPath, signal, args...) //nolint:errcheck // a lost bus is noticed by watch
	})
	if err := t.begin(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("putting the icon into the desktop's tray: %w", err), conn.Close())
	}
	return t, nil
}

func (t *Tray) begin(ctx context.Context) error {
	if err := t.o.writeIcons(); err != nil {
		return err
	}
	exports := []struct {
		what  any
		path  dbus.ObjectPath
		iface string
	}{
		{itemCalls{t}, itemPath, itemIface},
		{properties{map[string]func() map[string]dbus.Variant{itemIface: t.properties}}, itemPath, propsIface},
		{introspect.Introspectable(itemXML), itemPath, "org.freedesktop.DBus.Introspectable"},
		{menuCalls{t.menu}, menuPath, menuIface},
		{properties{map[string]func() map[string]dbus.Variant{menuIface: t.menu.properties}}, menuPath, propsIface},
		{introspect.Introspectable(menuXML), menuPath, "org.freedesktop.DBus.Introspectable"},
	}
	for _, e := range exports {
		if err := t.conn.Export(e.what, e.path, e.iface); err != nil {
			return err
		}
	}
	signals := make(chan *dbus.Signal, 32)
	t.conn.Signal(signals)
	for _, m := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, watcherName)},
		{dbus.WithMatchSender(watcherName), dbus.WithMatchInterface(watcherIface)},
	} {
		if err := t.conn.AddMatchSignalContext(ctx, m...); err != nil {
			return err
		}
	}
	reply, err := t.conn.RequestName(t.name, dbus.NameFlagDoNotQueue)
	if err != nil {
		return err
	}
	if reply != dbus.RequestNameReplyPrimaryOwner {
		return fmt.Errorf("the name %s is taken", t.name)
	}
	t.register(ctx)
	go t.watch(signals)
	return nil
}

// Close takes the icon away.
func (t *Tray) Close() error {
	t.mu.Lock()
	closed := t.closed
	t.closed = true
	t.mu.Unlock()
	if closed {
		return nil
	}
	err := t.conn.Close()
	<-t.done
	return err
}

// Hosted says whether a desktop shows the icon.
func (t *Tray) Hosted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hosted
}

// watch follows the watcher's coming and going, until the bus is lost.
func (t *Tray) watch(signals <-chan *dbus.Signal) {
	defer close(t.done)
	for s := range signals {
		switch s.Name {
		case busName + ".NameOwnerChanged", watcherIface + ".StatusNotifierHostRegistered", watcherIface + ".StatusNotifierHostUnregistered":
			ctx, cancel := context.WithTimeout(context.Background(), askTime)
			t.register(ctx)
			cancel()
		}
	}
	t.setHosted(false)
}

// register tells the watcher of the icon, and asks whether anybody shows icons. Telling
// it twice does no harm.
func (t *Tray) register(ctx context.Context) {
	watcher := t.conn.Object(watcherName, watcherPath)
	// A watcher that could be started is not: who has a tray has it at work.
	err := watcher.CallWithContext(ctx, watcherIface+".RegisterStatusNotifierItem", dbus.FlagNoAutoStart, t.name).Err
	var hosted dbus.Variant
	if err == nil {
		err = watcher.CallWithContext(ctx, propsIface+".Get", dbus.FlagNoAutoStart, watcherIface, "IsStatusNotifierHostRegistered").Store(&hosted)
	}
	yes, _ := hosted.Value().(bool)
	t.setHosted(err == nil && yes)
}

func (t *Tray) setHosted(hosted bool) {
	t.mu.Lock()
	differs := t.hosted != hosted && !t.closed
	t.hosted = hosted
	t.mu.Unlock()
	if differs && t.o.OnHosted != nil {
		go t.o.OnHosted(hosted)
	}
}

// Show makes the icon and its menu look like this.
func (t *Tray) Show(look Look) {
	t.mu.Lock()
	before := t.look
	t.look = look
	t.mu.Unlock()
	t.menu.set(look.Menu, look.Opening)
	emit := func(signal string, args ...any) {
		t.conn.Emit(itemPath, itemIface+"."+signal, args...) //nolint:errcheck // a lost bus is noticed by watch
	}
	if before.State != look.State {
		emit("NewIcon")
		if a, b := before.status(), look.status(); a != b {
			emit("NewStatus", b)
		}
	}
	if before.Title != look.Title || before.Text != look.Text {
		emit("NewToolTip")
	}
}

func (l Look) status() string {
	if l.State == Attention {
		return "NeedsAttention"
	}
	return "Active"
}

type tooltip struct {
	IconName    string
	Icon        []pixmap
	Title, Text string
}

func (t *Tray) properties() map[string]dbus.Variant {
	t.mu.Lock()
	look := t.look
	t.mu.Unlock()
	v := dbus.MakeVariant
	return map[string]dbus.Variant{
		"Category":            v("ApplicationStatus"),
		"Id":                  v("hither"),
		"Title":               v("hither"),
		"Status":              v(look.status()),
		"WindowId":            v(int32(0)),
		"IconThemePath":       v(t.o.IconDir),
		"IconName":            v(t.o.iconName(look.State)),
		"IconPixmap":          v(pixmaps(look.State)),
		"OverlayIconName":     v(""),
		"OverlayIconPixmap":   v([]pixmap{}),
		"AttentionIconName":   v(t.o.iconName(Attention)),
		"AttentionIconPixmap": v(pixmaps(Attention)),
		"AttentionMovieName":  v(""),
		"ToolTip":             v(tooltip{"", []pixmap{}, look.Title, look.Text}),
		"ItemIsMenu":          v(false),
		"Menu":                v(menuPath),
	}
}

// itemCalls are the methods that panels call. Places on the screen are of no use to us.
type itemCalls struct{ t *Tray }

func (c itemCalls) Activate(_, _ int32) *dbus.Error {
	if c.t.o.Activate != nil {
		go c.t.o.Activate()
	}
	return nil
}

func (c itemCalls) SecondaryActivate(x, y int32) *dbus.Error { return c.Activate(x, y) }

// ContextMenu is for icons whose menu is not on the bus.
func (c itemCalls) ContextMenu(_, _ int32) *dbus.Error             { return nil }
func (c itemCalls) Scroll(_ int32, _ string) *dbus.Error           { return nil }
func (c itemCalls) ProvideXdgActivationToken(_ string) *dbus.Error { return nil }

// properties is org.freedesktop.DBus.Properties of an object whose properties change by
// signals of its own.
type properties struct {
	of map[string]func() map[string]dbus.Variant // by interface
}

func noSuchProperty(name string) *dbus.Error {
	return dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"no such property: " + name})
}

func (p properties) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	if f := p.of[iface]; f != nil {
		if v, ok := f()[name]; ok {
			return v, nil
		}
	}
	return dbus.Variant{}, noSuchProperty(iface + "." + name)
}

func (p properties) GetAll(iface string) (map[string]dbus.Variant, *dbus.Error) {
	if f := p.of[iface]; f != nil {
		return f(), nil
	}
	return map[string]dbus.Variant{}, nil
}

func (p properties) Set(iface, name string, _ dbus.Variant) *dbus.Error {
	return dbus.NewError("org.freedesktop.DBus.Error.PropertyReadOnly", []any{iface + "." + name + " cannot be set"})
}
