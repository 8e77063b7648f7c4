package main

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// node is an element of the XML, with its children in order.
type node struct {
	XMLName xml.Name
	Attrs   []xml.Attr `xml:",any,attr"`
	Kids    []*node    `xml:",any"`
	Text    string     `xml:",chardata"`
}

func (n *node) tag() string { return n.XMLName.Local }

func (n *node) attr(name string) string {
	for _, a := range n.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func (n *node) number(name string) (int, error) {
	v, err := strconv.Atoi(n.attr(name))
	if err != nil {
		return 0, fmt.Errorf("%s %s: attribute %s: %w", n.tag(), n.attr("name"), name, err)
	}
	return v, nil
}

func (n *node) text() string { return strings.TrimSpace(n.Text) }

// kind is what a type is on the wire.
type kind int

const (
	kindInt    kind = iota // a number of size bytes
	kindBool               // one byte, or four in value lists
	kindChar               // a byte of text
	kindVoid               // a byte of anything
	kindStruct             // fields in order
	kindUnion              // raw bytes
)

// typ is a type of the protocol.
type typ struct {
	kind   kind
	goName string
	size   int    // on the wire; 0 while unknown, for a struct with lists the least size
	fixed  bool   // the size is always that
	get    string // the decoder's method for it, for numbers
	named  bool   // a Go type of its own must be declared for it
	under  string // its underlying Go type then
	proto  *protocol
	xml    string // its name in the XML
	node   *node  // of a struct or union
	fields []*field

	decodes, encodes bool // which methods are wanted
	declared         bool // wanted at all
}

// field is a member of a struct, request, reply or event.
type field struct {
	kind   fieldKind
	name   string // in the XML
	goName string
	typ    *typ
	enum   *enum // the field's Go type is this enum's
	length *node // a list's expression; nil: to the end of the message
	count  int   // a list of a constant number of elements; a pad's bytes
	values *valueList
	// lengthOf is the list whose length this field says, so that it is no
	// field in Go; code is the Go expression for it where there is no list.
	lengthOf *field
	code     string
	maskOf   *field // the value list whose mask this field is
}

type fieldKind int

const (
	plain fieldKind = iota
	pad
	align
	list
	array // a list with a constant number of elements
	fd
	values // a value list: a mask and the values it names
	raw    // the rest of the message, or code bytes of it
)

// enum is a set of constants; typed as soon as some field is declared with it.
type enum struct {
	goName string
	typ    *typ // the constants' type where the enum has the name of an XID
	typed  bool
	wanted bool
	proto  *protocol
	xml    string
	items  []item
}

type item struct {
	name, goName string
	value        int64
}

// valueList is a mask with a value for each bit.
type valueList struct {
	goName string
	mask   *enum
	proto  *protocol
	fields []*field
	items  []string // the mask's constant for each field
}

type request struct {
	name, goName string
	opcode       int
	fields       []*field
	reply        *reply
}

type reply struct {
	goName string
	fields []*field
	bulk   bool // carries bytes in great number
}

type event struct {
	name, goName string
	number       int
	generic      bool // XGE
	noSequence   bool
	fields       []*field
	core         bool
}

type protocol struct {
	choice
	xname        string
	imports      []string
	types        map[string]*typ
	enums        map[string]*enum
	enumOrder    []*enum
	typeOrder    []*typ
	valueLists   []*valueList
	requestNodes []*node
	eventNodes   []*node
	eventByName  map[string]*node
	errors       map[int]string
	core         bool

	requests []*request
	events   []*event
}

// world is all protocols by the name of their file.
type world struct {
	protocols map[string]*protocol
	order     []*protocol
}

func load(folder string) (*world, error) {
	w := &world{protocols: map[string]*protocol{}}
	for _, c := range choices {
		p, err := loadProtocol(folder, c)
		if err != nil {
			return nil, err
		}
		w.protocols[c.file] = p
		w.order = append(w.order, p)
	}
	return w, nil
}

func loadProtocol(folder string, c choice) (*protocol, error) {
	data, err := os.ReadFile(filepath.Join(folder, c.file+".xml"))
	if err != nil {
		return nil, fmt.Errorf("reading a protocol's description (Debian package xcb-proto): %w", err)
	}
	var root node
	if err := xml.Unmarshal(data, &root); err != nil {
		return nil, fmt.Errorf("reading %s.xml: %w", c.file, err)
	}
	p := &protocol{
		choice: c, xname: root.attr("extension-xname"), core: c.file == "xproto",
		types: map[string]*typ{}, enums: map[string]*enum{}, errors: map[int]string{}, eventByName: map[string]*node{},
	}
	for _, n := range root.Kids {
		if err := p.add(n); err != nil {
			return nil, fmt.Errorf("%s.xml: %w", c.file, err)
		}
	}
	return p, nil
}

// add takes in a top-level element. Structs' fields are read later, when all
// types are known.
func (p *protocol) add(n *node) error {
	name := n.attr("name")
	switch n.tag() {
	case "import":
		p.imports = append(p.imports, n.text())
	case "xidtype", "xidunion":
		p.addType(name, &typ{kind: kindInt, size: 4, fixed: true, get: "u32", named: true, under: "uint32"})
	case "typedef":
		p.typeOrder = append(p.typeOrder, p.addAlias(n.attr("newname"), n.attr("oldname")))
	case "struct":
		p.addType(name, &typ{kind: kindStruct, node: n, named: true})
	case "union":
		p.addType(name, &typ{kind: kindUnion, node: n, named: true, fixed: true})
	case "enum":
		return p.addEnum(n)
	case "request":
		p.requestNodes = append(p.requestNodes, n)
	case "event", "eventcopy":
		p.eventNodes = append(p.eventNodes, n)
		p.eventByName[name] = n
	case "error", "errorcopy":
		number, err := n.number("number")
		if err != nil {
			return err
		}
		p.errors[number] = name
	}
	return nil
}

func (p *protocol) addType(name string, t *typ) {
	t.proto, t.xml = p, name
	t.goName = p.typeName(name)
	p.types[name] = t
	p.typeOrder = append(p.typeOrder, t)
}

// addAlias declares a type that is another's like; the old one is looked up
// when it is used.
func (p *protocol) addAlias(name, old string) *typ {
	t := &typ{kind: -1, proto: p, xml: name, under: old, named: true}
	t.goName = p.typeName(name)
	p.types[name] = t
	return t
}

func (p *protocol) addEnum(n *node) error {
	e := &enum{proto: p, xml: n.attr("name")}
	e.goName = p.typeName(e.xml)
	next := int64(0)
	for _, k := range n.Kids {
		if k.tag() != "item" {
			continue
		}
		it := item{name: k.attr("name"), value: next}
		it.goName = e.goName + camel(it.name)
		for _, v := range k.Kids {
			number, err := strconv.ParseInt(v.text(), 0, 64)
			if err != nil {
				continue
			}
			switch v.tag() {
			case "value":
				it.value = number
			case "bit":
				it.value = 1 << number
			}
		}
		next = it.value + 1
		e.items = append(e.items, it)
	}
	p.enums[e.xml] = e
	p.enumOrder = append(p.enumOrder, e)
	return nil
}
