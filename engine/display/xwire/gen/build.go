package main

import (
	"fmt"
	"slices"
	"strconv"
)

var primitives = map[string]*typ{
	"CARD8": {kind: kindInt, goName: "uint8", size: 1, fixed: true, get: "u8"}, "BYTE": {kind: kindInt, goName: "uint8", size: 1, fixed: true, get: "u8"},
	"INT8":   {kind: kindInt, goName: "int8", size: 1, fixed: true, get: "i8"},
	"CARD16": {kind: kindInt, goName: "uint16", size: 2, fixed: true, get: "u16"}, "INT16": {kind: kindInt, goName: "int16", size: 2, fixed: true, get: "i16"},
	"CARD32": {kind: kindInt, goName: "uint32", size: 4, fixed: true, get: "u32"}, "INT32": {kind: kindInt, goName: "int32", size: 4, fixed: true, get: "i32"},
	"CARD64": {kind: kindInt, goName: "uint64", size: 8, fixed: true, get: "u64"}, "INT64": {kind: kindInt, goName: "int64", size: 8, fixed: true, get: "i64"},
	"BOOL": {kind: kindBool, goName: "bool", size: 1, fixed: true, get: "bool"}, "BOOL32": {kind: kindBool, goName: "bool", size: 4, fixed: true, get: "bool32"},
	"char": {kind: kindChar, goName: "uint8", size: 1, fixed: true, get: "u8"}, "void": {kind: kindVoid, goName: "uint8", size: 1, fixed: true, get: "u8"},
}

// build reads the requests and events that are wanted, and by them the types.
func (w *world) build() error {
	for _, p := range w.order {
		if err := w.buildProtocol(p); err != nil {
			return fmt.Errorf("%s.xml: %w", p.file, err)
		}
	}
	return nil
}

func (w *world) buildProtocol(p *protocol) error {
	for _, n := range p.requestNodes {
		name := n.attr("name")
		if (p.choice.requests != nil && !slices.Contains(p.choice.requests, name)) || slices.Contains(p.skip, name) {
			continue
		}
		r, err := w.buildRequest(p, n)
		if err != nil {
			return fmt.Errorf("request %s: %w", name, err)
		}
		p.requests = append(p.requests, r)
	}
	for _, n := range p.eventNodes {
		name := n.attr("name")
		if p.choice.events != nil && !slices.Contains(p.choice.events, name) {
			continue
		}
		e, err := w.buildEvent(p, n)
		if err != nil {
			return fmt.Errorf("event %s: %w", name, err)
		}
		p.events = append(p.events, e)
	}
	for _, e := range p.enumOrder {
		if p.choice.requests == nil || slices.Contains(p.choice.enums, e.xml) {
			w.want(e)
		}
	}
	if p.core {
		if _, err := w.use(p, "Setup", "decodes"); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) buildRequest(p *protocol, n *node) (*request, error) {
	opcode, err := n.number("opcode")
	if err != nil {
		return nil, err
	}
	name := n.attr("name")
	r := &request{name: name, goName: p.prefixed(camel(name)), opcode: opcode}
	if r.fields, err = w.fields(p, n.Kids, p.file+"."+name, "encodes"); err != nil {
		return nil, err
	}
	for _, k := range n.Kids {
		if k.tag() != "reply" {
			continue
		}
		r.reply = &reply{goName: r.goName + "Reply"}
		if r.reply.fields, err = w.fields(p, k.Kids, p.file+"."+name+".reply", "decodes"); err != nil {
			return nil, fmt.Errorf("reply: %w", err)
		}
		// Bytes become no larger by being decoded, unlike lists of structs.
		r.reply.bulk = true
		lists := 0
		for _, f := range r.reply.fields {
			if f.kind == raw || (f.kind == list && f.isBytes()) {
				lists++
			} else if f.kind == list {
				r.reply.bulk = false
			}
		}
		r.reply.bulk = r.reply.bulk && lists > 0
	}
	return r, nil
}

func (w *world) buildEvent(p *protocol, n *node) (*event, error) {
	number, err := n.number("number")
	if err != nil {
		return nil, err
	}
	name := n.attr("name")
	from := n
	for from.tag() == "eventcopy" {
		next := p.eventByName[from.attr("ref")]
		if next == nil {
			return nil, fmt.Errorf("no event %q to copy", from.attr("ref"))
		}
		from = next
	}
	e := &event{name: name, goName: p.prefixed(camel(name)), number: number, generic: from.attr("xge") == "true", noSequence: from.attr("no-sequence-number") == "true", core: p.core}
	use := "decodes"
	if p.core {
		use = "both"
	}
	e.fields, err = w.fields(p, from.Kids, p.file+"."+name, use)
	return e, err
}

func (w *world) want(e *enum) {
	e.wanted = true
	// An enum with the name of a type gives that type's constants.
	if t := e.proto.types[e.xml]; t != nil && t.kind == kindInt {
		e.typ = t
		t.declared = true
	} else if t := e.proto.types[upperOf(e.proto, e.goName)]; t != nil && t.kind == kindInt {
		e.typ = t
		t.declared = true
	}
}

// upperOf finds the type of the same Go name: WINDOW for Window.
func upperOf(p *protocol, goName string) string {
	for _, t := range p.typeOrder {
		if t.goName == goName {
			return t.xml
		}
	}
	return ""
}

func (w *world) findEnum(p *protocol, name string) *enum {
	if _, after, ok := cutColon(name); ok {
		name = after
	}
	if e := p.enums[name]; e != nil {
		return e
	}
	for _, q := range w.order {
		if e := q.enums[name]; e != nil {
			return e
		}
	}
	return nil
}

func cutColon(s string) (string, string, bool) {
	for i := range s {
		if s[i] == ':' {
			return s[:i], s[i+1:], true
		}
	}
	return "", s, false
}

// lookup finds a type by its name in a protocol.
func (w *world) lookup(p *protocol, name string) (*typ, error) {
	before, short, qualified := cutColon(name)
	if t := primitives[short]; t != nil {
		// SYNC's own INT64 is two numbers, the upper one first.
		if own := p.types[short]; own == nil || own.kind != kindStruct {
			return t, nil
		}
	}
	if !qualified || before == p.file {
		if t := p.types[short]; t != nil {
			return t, nil
		}
	}
	for _, q := range w.order { // xproto first
		if t := q.types[short]; t != nil && (!qualified || before == q.file) && (q.core || slices.Contains(p.imports, q.file) || qualified) {
			return t, nil
		}
	}
	return nil, fmt.Errorf("no type %q", name)
}

// use looks a type up and says how it will be used: decodes, encodes or both.
func (w *world) use(p *protocol, name, how string) (*typ, error) {
	t, err := w.lookup(p, name)
	if err != nil {
		return nil, err
	}
	return t, w.useType(t, how)
}

func (w *world) useType(t *typ, how string) error {
	if t.proto == nil {
		return nil
	}
	first := !t.declared
	t.declared = true
	wasDecoded, wasEncoded := t.decodes, t.encodes
	t.decodes = t.decodes || how != "encodes"
	t.encodes = t.encodes || how != "decodes"
	switch {
	case t.kind == -1:
		old, err := w.use(t.proto, t.under, how)
		if err != nil {
			return err
		}
		t.kind, t.size, t.fixed, t.get, t.under = old.kind, old.size, old.fixed, old.get, old.goName
	case t.kind == kindUnion && first:
		for _, n := range t.node.Kids {
			f, err := w.field(t.proto, n, t.proto.file+"."+t.xml, how)
			if err != nil {
				return fmt.Errorf("union %s: %w", t.xml, err)
			}
			if f != nil {
				t.size = max(t.size, f.size())
			}
		}
	case t.kind == kindStruct && (first || wasDecoded != t.decodes || wasEncoded != t.encodes):
		fields, err := w.fields(t.proto, t.node.Kids, t.proto.file+"."+t.xml, how)
		if err != nil {
			return fmt.Errorf("struct %s: %w", t.xml, err)
		}
		if !first {
			return nil
		}
		t.fields, t.fixed = fields, true
		for _, f := range fields {
			if f.kind == list || f.kind == align || f.kind == raw || (f.typ != nil && !f.typ.fixed) {
				t.fixed = false
			}
			t.size += f.size()
		}
	}
	return nil
}

// size is what a field takes on the wire at least.
func (f *field) size() int {
	switch f.kind {
	case pad:
		return f.count
	case array:
		return f.count * f.typ.size
	case plain:
		return f.typ.size
	}
	return 0
}

func (f *field) isBytes() bool {
	return f.enum == nil && f.typ != nil && f.typ.size == 1 && f.typ.kind != kindStruct && f.typ.kind != kindBool && f.typ.kind != kindUnion
}

// fields reads the members of a struct, request, reply or event.
func (w *world) fields(p *protocol, nodes []*node, where, how string) ([]*field, error) {
	var out []*field
	byName := map[string]*field{}
	for _, n := range nodes {
		if rawTails[where] && (n.tag() == "list" || n.tag() == "switch") {
			out = append(out, &field{kind: raw, name: "values", goName: "Values"})
			break
		}
		f, err := w.field(p, n, where, how)
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		if f.kind == plain {
			byName[f.name] = f
			f.code = computed[where+"."+f.name]
		}
		out = append(out, f)
	}
	for _, f := range out {
		var name string
		switch {
		case f.kind == values:
			name = f.length.text()
		case f.kind == list && f.length != nil && f.length.tag() == "fieldref":
			name = f.length.text()
		default:
			continue
		}
		of := byName[name]
		if of == nil {
			continue // the reply's length, for instance
		}
		if f.kind == values {
			of.maskOf = f
			continue
		}
		if of.lengthOf != nil && how != "decodes" {
			return nil, fmt.Errorf("%s: one length for two lists", where)
		}
		if of.lengthOf == nil {
			of.lengthOf = f
		}
	}
	return out, nil
}

func (w *world) field(p *protocol, n *node, where, how string) (*field, error) {
	name := n.attr("name")
	f := &field{name: name, goName: fieldName(name)}
	var err error
	switch n.tag() {
	case "pad":
		if a := n.attr("align"); a != "" {
			f.kind = align
			f.count, err = n.number("align")
		} else {
			f.kind = pad
			f.count, err = n.number("bytes")
		}
		return f, err
	case "fd":
		f.kind = fd
		return f, nil
	case "switch":
		if code, ok := rawLengths[where]; ok {
			f.kind, f.code = raw, code
			return f, nil
		}
		return w.valueList(p, n, how)
	case "field", "list":
		if name == "nfd" { // the connection counts descriptors itself
			f.kind, f.count = pad, 1
			return f, nil
		}
	default: // reply, doc, required_start_align
		return nil, nil
	}
	if f.typ, err = w.use(p, n.attr("type"), how); err != nil {
		return nil, err
	}
	for _, a := range []string{"enum", "mask", "altenum", "altmask"} {
		if v := n.attr(a); v != "" {
			e := w.findEnum(p, v)
			if e == nil {
				continue // xkb names sets that it does not declare
			}
			w.want(e)
			if (a == "enum" || a == "mask") && f.typ.proto == nil && f.typ.kind == kindInt && e.typ == nil && len(e.items) > 0 {
				f.enum = e
				e.typed = true
			}
		}
	}
	if n.tag() == "field" {
		return f, nil
	}
	f.kind = list
	for _, k := range n.Kids {
		if k.tag() != "doc" {
			f.length = k
		}
	}
	if f.length != nil && f.length.tag() == "value" {
		f.kind = array
		f.count, err = strconv.Atoi(f.length.text())
	}
	return f, err
}

func fieldName(name string) string { return camel(name) }

// valueList reads a switch of bitcases with one mask and fixed values.
func (w *world) valueList(p *protocol, n *node, how string) (*field, error) {
	v := &valueList{proto: p}
	f := &field{kind: values, name: n.attr("name"), goName: "Values", values: v}
	for _, k := range n.Kids {
		if k.tag() == "fieldref" {
			f.length = k
			continue
		}
		if k.tag() != "bitcase" || len(k.Kids) < 2 || k.Kids[0].tag() != "enumref" {
			return nil, fmt.Errorf("a switch that is no value list")
		}
		v.mask = w.findEnum(p, k.Kids[0].attr("ref"))
		v.mask.typed = true
		w.want(v.mask)
		for _, inner := range k.Kids[1:] {
			g, err := w.field(p, inner, "", how)
			if err != nil {
				return nil, err
			}
			if g == nil {
				continue
			}
			if g.kind != plain {
				return nil, fmt.Errorf("a value list with a list in it")
			}
			v.fields = append(v.fields, g)
			v.items = append(v.items, v.mask.goName+camel(k.Kids[0].text()))
		}
	}
	v.goName = valueListNames[v.mask.proto.file+"."+v.mask.xml]
	if v.goName == "" {
		return nil, fmt.Errorf("no Go name for the value list of %s", v.mask.xml)
	}
	for _, other := range p.valueLists {
		if other.goName == v.goName {
			if len(other.fields) != len(v.fields) {
				return nil, fmt.Errorf("two kinds of %s", v.goName)
			}
			f.values = other
			return f, nil
		}
	}
	p.valueLists = append(p.valueLists, v)
	return f, nil
}
