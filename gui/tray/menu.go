package tray

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Item is a line of the menu.
type Item struct {
	Key       string // names the line among its siblings: the same key is the same line
	Label     string
	Icon      []byte // a PNG
	IconName  string // instead, of the icon theme
	Disabled  bool
	Separator bool
	Sub       []Item // a menu below it
	Do        func() // when it is chosen
	Opening   func() // when Sub is about to be shown
}

const (
	menuPath  = dbus.ObjectPath("/MenuBar")
	menuIface = "com.canonical.dbusmenu"
)

// line is an Item as the bus knows it. It is never changed once it is in a menu.
type line struct {
	id          int32
	props       map[string]dbus.Variant
	children    []*line
	do, opening func()
}

// menu is what panels read. Lines keep their numbers as long as they have their place and
// their key, so that an open menu stays as it is while its labels change.
type menu struct {
	emit func(signal string, args ...any)

	mu       sync.Mutex
	revision uint32
	root     *line
	byID     map[int32]*line
	ids      map[string]int32 // path of keys -> number; a number is never used again
	last     int32
}

func newMenu(emit func(string, ...any)) *menu {
	m := &menu{emit: emit, ids: map[string]int32{}, revision: 1}
	m.root = &line{props: map[string]dbus.Variant{"children-display": dbus.MakeVariant("submenu")}}
	m.byID = map[int32]*line{0: m.root}
	return m
}

// set makes the menu one of these items, and tells what has changed.
func (m *menu) set(items []Item, opening func()) {
	m.mu.Lock()
	byID := map[int32]*line{}
	ids := map[string]int32{}
	root := &line{props: m.root.props, opening: opening, children: m.lines(items, "", byID, ids)}
	byID[0] = root
	var updated []itemProps
	var removed []itemNames
	var moved []int32 // whose children are others
	for id, now := range byID {
		before := m.byID[id]
		if before == nil {
			continue // its parent's children are others
		}
		if !slices.EqualFunc(before.children, now.children, func(a, b *line) bool { return a.id == b.id }) {
			moved = append(moved, id)
		}
		if p := changed(before.props, now.props); len(p) > 0 {
			updated = append(updated, itemProps{id, p})
		}
		if n := gone(before.props, now.props); len(n) > 0 {
			removed = append(removed, itemNames{id, n})
		}
	}
	m.root, m.byID, m.ids = root, byID, ids
	parent := int32(0)
	if len(moved) > 0 {
		m.revision++
		if len(moved) == 1 {
			parent = moved[0]
		}
	}
	revision := m.revision
	m.mu.Unlock()

	if len(updated)+len(removed) > 0 {
		slices.SortFunc(updated, func(a, b itemProps) int { return int(a.ID - b.ID) })
		m.emit(menuIface+".ItemsPropertiesUpdated", append([]itemProps{}, updated...), append([]itemNames{}, removed...))
	}
	if len(moved) > 0 {
		m.emit(menuIface+".LayoutUpdated", revision, parent)
	}
}

// lines numbers the items. m.mu is held.
func (m *menu) lines(items []Item, path string, byID map[int32]*line, ids map[string]int32) []*line {
	var out []*line
	for _, it := range items {
		key := path + "\x00" + it.Key
		id, ok := m.ids[key]
		if !ok {
			m.last++
			id = m.last
		}
		ids[key] = id
		l := &line{id: id, do: it.Do, opening: it.Opening, props: it.props()}
		l.children = m.lines(it.Sub, key, byID, ids)
		byID[id] = l
		out = append(out, l)
	}
	return out
}

// props are the properties that differ from what the protocol assumes.
func (it Item) props() map[string]dbus.Variant {
	p := map[string]dbus.Variant{}
	if it.Separator {
		p["type"] = dbus.MakeVariant("separator")
		return p
	}
	p["label"] = dbus.MakeVariant(strings.ReplaceAll(it.Label, "_", "__")) // one _ marks a key
	if it.Disabled {
		p["enabled"] = dbus.MakeVariant(false)
	}
	if len(it.Icon) > 0 {
		p["icon-data"] = dbus.MakeVariant(it.Icon)
	}
	if it.IconName != "" {
		p["icon-name"] = dbus.MakeVariant(it.IconName)
	}
	if len(it.Sub) > 0 {
		p["children-display"] = dbus.MakeVariant("submenu")
	}
	return p
}

func changed(before, now map[string]dbus.Variant) map[string]dbus.Variant {
	out := map[string]dbus.Variant{}
	for k, v := range now {
		if old, ok := before[k]; !ok || !reflect.DeepEqual(old.Value(), v.Value()) {
			out[k] = v
		}
	}
	return out
}

func gone(before, now map[string]dbus.Variant) []string {
	var out []string
	for k := range before {
		if _, ok := now[k]; !ok {
			out = append(out, k)
		}
	}
	return out
}

// What travels on the bus.
type (
	itemProps struct {
		ID    int32
		Props map[string]dbus.Variant
	}
	itemNames struct {
		ID    int32
		Names []string
	}
	layout struct {
		ID       int32
		Props    map[string]dbus.Variant
		Children []dbus.Variant // of layout
	}
	menuEvent struct {
		ID        int32
		Kind      string
		Data      dbus.Variant
		Timestamp uint32
	}
)

// menuCalls are the methods that panels call.
type menuCalls struct{ m *menu }

func noSuchLine() *dbus.Error {
	return dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", []any{"the menu has no such line"})
}

func (c menuCalls) GetLayout(parent, depth int32, names []string) (uint32, layout, *dbus.Error) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	l := c.m.byID[parent]
	if l == nil {
		return 0, layout{}, noSuchLine()
	}
	return c.m.revision, l.layout(depth, names), nil
}

func (l *line) layout(depth int32, names []string) layout {
	out := layout{ID: l.id, Props: pick(l.props, names), Children: []dbus.Variant{}}
	if depth != 0 {
		for _, child := range l.children {
			out.Children = append(out.Children, dbus.MakeVariant(child.layout(depth-1, names)))
		}
	}
	return out
}

// pick is the properties of these names; of none: all.
func pick(props map[string]dbus.Variant, names []string) map[string]dbus.Variant {
	out := map[string]dbus.Variant{}
	for k, v := range props {
		if len(names) == 0 || slices.Contains(names, k) {
			out[k] = v
		}
	}
	return out
}

func (c menuCalls) GetGroupProperties(ids []int32, names []string) ([]itemProps, *dbus.Error) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	out := []itemProps{}
	if len(ids) == 0 {
		for id := range c.m.byID {
			ids = append(ids, id)
		}
		slices.Sort(ids)
	}
	for _, id := range ids {
		if l := c.m.byID[id]; l != nil {
			out = append(out, itemProps{id, pick(l.props, names)})
		}
	}
	return out, nil
}

func (c menuCalls) GetProperty(id int32, name string) (dbus.Variant, *dbus.Error) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if l := c.m.byID[id]; l != nil {
		if v, ok := l.props[name]; ok {
			return v, nil
		}
	}
	return dbus.Variant{}, noSuchLine()
}

func (c menuCalls) Event(id int32, kind string, _ dbus.Variant, _ uint32) *dbus.Error {
	if !c.event(id, kind) {
		return noSuchLine()
	}
	return nil
}

func (c menuCalls) EventGroup(events []menuEvent) ([]int32, *dbus.Error) {
	bad := []int32{}
	for _, e := range events {
		if !c.event(e.ID, e.Kind) {
			bad = append(bad, e.ID)
		}
	}
	if len(bad) > 0 && len(bad) == len(events) {
		return nil, noSuchLine()
	}
	return bad, nil
}

func (c menuCalls) event(id int32, kind string) bool {
	c.m.mu.Lock()
	l := c.m.byID[id]
	c.m.mu.Unlock()
	if l == nil {
		return false
	}
	switch {
	case kind == "clicked" && l.do != nil:
		go l.do()
	case kind == "opened" && l.opening != nil:
		go l.opening()
	}
	return true
}

// AboutToShow is asked before a menu opens. What is fetched now comes as a change of the open menu,
// so nothing waits for it.
func (c menuCalls) AboutToShow(id int32) (bool, *dbus.Error) {
	c.m.mu.Lock()
	l := c.m.byID[id]
	c.m.mu.Unlock()
	if l == nil {
		return false, noSuchLine()
	}
	if l.opening != nil {
		go l.opening()
	}
	return false, nil
}

func (c menuCalls) AboutToShowGroup(ids []int32) ([]int32, []int32, *dbus.Error) {
	bad := []int32{}
	for _, id := range ids {
		if _, err := c.AboutToShow(id); err != nil {
			bad = append(bad, id)
		}
	}
	return []int32{}, bad, nil
}

func (m *menu) properties() map[string]dbus.Variant {
	return map[string]dbus.Variant{
		"Version":       dbus.MakeVariant(uint32(3)),
		"TextDirection": dbus.MakeVariant("ltr"),
		"Status":        dbus.MakeVariant("normal"),
		"IconThemePath": dbus.MakeVariant([]string{}),
	}
}
