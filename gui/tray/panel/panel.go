// Package panel stands in for a desktop's panel, in the lab and in tests: it is the bus's StatusNotifierWatcher,
// reads the menus of the icons that register there, and clicks in them.
package panel

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

const (
	watcherName = "org.kde.StatusNotifierWatcher"
	watcherPath = dbus.ObjectPath("/StatusNotifierWatcher")
	itemPath    = dbus.ObjectPath("/StatusNotifierItem")
	itemIface   = "org.kde.StatusNotifierItem"
	menuIface   = "com.canonical.dbusmenu"
	propsIface  = "org.freedesktop.DBus.Properties"
)

// Line is a line of a menu, with those below it.
type Line struct {
	ID        int32
	Label     string `json:",omitempty"`
	Enabled   bool
	Separator bool   `json:",omitempty"`
	Icon      int    `json:",omitempty"` // bytes
	Sub       []Line `json:",omitempty"`
}

// Icon is an icon in the tray.
type Icon struct {
	Name, Status, IconName, Title, Text string
	Menu                                []Line
}

// Panel is at work from Open to Close.
type Panel struct {
	conn *dbus.Conn

	mu      sync.Mutex
	items   []string
	changed chan struct{} // closed, and replaced, at each signal
	// Signals counts what was told, by its name.
	signals map[string]int
}

// Open takes the watcher's name on a bus. Without host nobody shows icons, says the watcher.
func Open(conn *dbus.Conn, host bool) (*Panel, error) {
	p := &Panel{conn: conn, changed: make(chan struct{}), signals: map[string]int{}}
	signals := make(chan *dbus.Signal, 256)
	conn.Signal(signals)
	for _, iface := range []string{itemIface, menuIface} {
		if err := conn.AddMatchSignal(dbus.WithMatchInterface(iface)); err != nil {
			return nil, err
		}
	}
	if err := conn.AddMatchSignal(dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged")); err != nil {
		return nil, err
	}
	if err := conn.Export(watcher{p}, watcherPath, watcherName); err != nil {
		return nil, err
	}
	if err := conn.Export(watcherProps{p, host}, watcherPath, propsIface); err != nil {
		return nil, err
	}
	if r, err := conn.RequestName(watcherName, dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		return nil, fmt.Errorf("taking the name %s: %d, %w", watcherName, r, err)
	}
	go p.hear(signals)
	return p, nil
}

// Close gives the name back.
func (p *Panel) Close() error {
	_, err := p.conn.ReleaseName(watcherName)
	return err
}

type watcher struct{ p *Panel }

func (w watcher) RegisterStatusNotifierItem(sender dbus.Sender, name string) *dbus.Error {
	if strings.HasPrefix(name, "/") {
		name = string(sender)
	}
	w.p.mu.Lock()
	if !slices.Contains(w.p.items, name) {
		w.p.items = append(w.p.items, name)
	}
	w.p.mu.Unlock()
	w.p.tell("registered")
	return nil
}

func (w watcher) RegisterStatusNotifierHost(string) *dbus.Error { return nil }

type watcherProps struct {
	p    *Panel
	host bool
}

func (w watcherProps) Get(_, name string) (dbus.Variant, *dbus.Error) {
	if name != "IsStatusNotifierHostRegistered" {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{name})
	}
	return dbus.MakeVariant(w.host), nil
}

func (p *Panel) tell(signal string) {
	p.mu.Lock()
	p.signals[signal]++
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
}

func (p *Panel) hear(signals <-chan *dbus.Signal) {
	for s := range signals {
		if strings.HasSuffix(s.Name, ".NameOwnerChanged") {
			if name, gone := s.Body[0].(string), s.Body[2].(string) == ""; gone {
				p.mu.Lock()
				p.items = slices.DeleteFunc(p.items, func(i string) bool { return i == name })
				p.mu.Unlock()
			}
		}
		p.tell(s.Name[strings.LastIndexByte(s.Name, '.')+1:])
	}
}

// Signals is how often a signal was told.
func (p *Panel) Signals(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signals[name]
}

// Icons are the icons that are there.
func (p *Panel) Icons(ctx context.Context) ([]Icon, error) {
	p.mu.Lock()
	items := slices.Clone(p.items)
	p.mu.Unlock()
	var out []Icon
	for _, name := range items {
		i, err := p.read(ctx, name)
		if err != nil {
			return out, err
		}
		out = append(out, i)
	}
	return out, nil
}

func (p *Panel) read(ctx context.Context, name string) (Icon, error) {
	out := Icon{Name: name}
	props := map[string]dbus.Variant{}
	err := p.conn.Object(name, itemPath).CallWithContext(ctx, propsIface+".GetAll", 0, itemIface).Store(&props)
	if err != nil {
		return out, fmt.Errorf("reading the icon %s: %w", name, err)
	}
	var tip struct {
		Icon    string
		Pixmaps []struct {
			W, H int32
			Data []byte
		}
		Title, Text string
	}
	if err := props["ToolTip"].Store(&tip); err != nil {
		return out, fmt.Errorf("reading the tooltip of %s: %w", name, err)
	}
	out.Title, out.Text = tip.Title, tip.Text
	out.Status, _ = props["Status"].Value().(string)
	out.IconName, _ = props["IconName"].Value().(string)
	menu, _ := props["Menu"].Value().(dbus.ObjectPath)
	var revision uint32
	var root struct {
		ID       int32
		Props    map[string]dbus.Variant
		Children []dbus.Variant
	}
	if err := p.conn.Object(name, menu).CallWithContext(ctx, menuIface+".GetLayout", 0, int32(0), int32(-1), []string{}).Store(&revision, &root); err != nil {
		return out, fmt.Errorf("reading the menu of %s: %w", name, err)
	}
	out.Menu, err = lines(root.Children)
	return out, err
}

func lines(children []dbus.Variant) ([]Line, error) {
	var out []Line
	for _, c := range children {
		var l struct {
			ID       int32
			Props    map[string]dbus.Variant
			Children []dbus.Variant
		}
		if err := c.Store(&l); err != nil {
			return nil, fmt.Errorf("reading a line of the menu: %w", err)
		}
		n := Line{ID: l.ID, Enabled: true}
		label, _ := l.Props["label"].Value().(string)
		n.Label = strings.ReplaceAll(label, "__", "_")
		if on, ok := l.Props["enabled"].Value().(bool); ok {
			n.Enabled = on
		}
		n.Separator = l.Props["type"].Value() == "separator"
		icon, _ := l.Props["icon-data"].Value().([]byte)
		n.Icon = len(icon)
		var err error
		if n.Sub, err = lines(l.Children); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// Find is the line at this path of labels; one that ends in * names the beginning.
func (i Icon) Find(path ...string) (Line, bool) {
	at, found := i.Menu, Line{}
	for _, label := range path {
		n := slices.IndexFunc(at, func(l Line) bool {
			if begin, ok := strings.CutSuffix(label, "*"); ok {
				return strings.HasPrefix(l.Label, begin)
			}
			return l.Label == label
		})
		if n < 0 {
			return Line{}, false
		}
		found, at = at[n], at[n].Sub
	}
	return found, len(path) > 0
}

// Wait waits until there is one icon and it is as ok wants, and returns it. It looks
// again at each signal.
func (p *Panel) Wait(ctx context.Context, ok func(Icon) bool) (Icon, error) {
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		icons, err := p.Icons(ctx)
		if err == nil && len(icons) == 1 && ok(icons[0]) {
			return icons[0], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Icon{}, fmt.Errorf("waiting for the tray: %w; it has %+v (%w)", ctx.Err(), icons, err)
		}
	}
}

// Open says that a menu, or with ID 0 the whole of it, is about to be shown, as panels do.
func (p *Panel) Open(ctx context.Context, icon Icon, id int32) error {
	return p.conn.Object(icon.Name, "/MenuBar").CallWithContext(ctx, menuIface+".AboutToShow", 0, id).Err
}

// Click chooses a line.
func (p *Panel) Click(ctx context.Context, icon Icon, id int32) error {
	return p.conn.Object(icon.Name, "/MenuBar").CallWithContext(ctx, menuIface+".Event", 0, id, "clicked", dbus.MakeVariant(int32(0)), uint32(0)).Err
}

// Activate clicks on the icon itself.
func (p *Panel) Activate(ctx context.Context, icon Icon) error {
	return p.conn.Object(icon.Name, itemPath).CallWithContext(ctx, itemIface+".Activate", 0, int32(0), int32(0)).Err
}
