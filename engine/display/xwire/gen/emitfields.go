package main

import (
	"fmt"
	"strconv"
)

func local(f *field) string { return "len" + f.goName }

// decodeFields writes the statements that read fields into v from d.
// Lengths may be said by any field of scope.
func (e *emitter) decodeFields(fields, scope []*field) error {
	env := func(name string) string {
		for _, f := range scope {
			if f.name == name && f.kind == plain {
				if f.lengthOf != nil {
					return local(f)
				}
				return "int(v." + f.goName + ")"
			}
		}
		if name == "length" {
			return "d.words()"
		}
		return "no_such_field_" + name
	}
	for _, f := range fields {
		if err := e.decodeField(f, env); err != nil {
			return err
		}
	}
	return nil
}

func (e *emitter) decodeField(f *field, env func(string) string) error {
	switch f.kind {
	case pad:
		e.f("d.skip(%d)", f.count)
	case align:
		e.f("d.align(%d)", f.count)
	case fd:
		e.f("v.%s = d.file()", f.goName)
	case plain:
		if f.lengthOf != nil {
			e.f("%s := int(d.%s())", local(f), f.typ.get)
			return nil
		}
		e.decodeOne(f, "v."+f.goName)
	case array:
		if f.isBytes() {
			e.f("copy(v.%s[:], d.take(%d))", f.goName, f.count)
			return nil
		}
		e.f("for i := range v.%s {", f.goName)
		e.decodeOne(f, "v."+f.goName+"[i]")
		e.f("}")
	case raw:
		name := f.goName
		if name == "" {
			name = "Data"
		}
		if f.code != "" {
			e.f("v.%s = d.take(%s)", name, f.code)
		} else {
			e.f("v.%s = d.take(d.left())", name)
		}
	case list:
		return e.decodeList(f, env)
	default:
		return fmt.Errorf("field %s cannot be decoded", f.name)
	}
	return nil
}

func (e *emitter) decodeList(f *field, env func(string) string) error {
	count := fmt.Sprintf("d.left()/%d", max(f.typ.size, 1))
	if f.length != nil {
		var err error
		if count, err = expression(f.length, env, "v."); err != nil {
			return fmt.Errorf("list %s: %w", f.name, err)
		}
	}
	switch {
	case f.isBytes() && f.typ.kind == kindChar:
		e.f("v.%s = string(d.take(%s))", f.goName, count)
		return nil
	case f.isBytes() && f.typ.proto == nil:
		e.f("v.%s = d.take(%s)", f.goName, count)
		return nil
	}
	e.f("v.%s = make([]%s, d.count(%s, %d))", f.goName, elementType(f), count, max(f.typ.size, 1))
	e.f("for i := range v.%s {", f.goName)
	e.decodeOne(f, "v."+f.goName+"[i]")
	e.f("}")
	return nil
}

// decodeOne reads one element into the Go expression to.
func (e *emitter) decodeOne(f *field, to string) {
	switch f.typ.kind {
	case kindStruct:
		e.f("%s.decode(d)", to)
	case kindUnion:
		e.f("copy(%s[:], d.take(%d))", to, f.typ.size)
	default:
		value := "d." + f.typ.get + "()"
		if t := elementType(f); f.typ.proto != nil || f.enum != nil {
			value = t + "(" + value + ")"
		}
		e.f("%s = %s", to, value)
	}
}

// encodeFields writes the statements that append fields to e; name gives a
// field's Go expression.
func (e *emitter) encodeFields(fields []*field, name func(*field) string) error {
	for _, f := range fields {
		if f == nil {
			continue
		}
		switch f.kind {
		case pad:
			e.f("e.pad(%d)", f.count)
		case align:
			e.f("e.align(%d)", f.count)
		case fd:
			e.f("e.file(%s)", name(f))
		case plain:
			switch {
			case f.lengthOf != nil:
				e.f("e.len%d(len(%s))", f.typ.size*8, name(f.lengthOf))
			case f.maskOf != nil:
				e.f("e.u%d(uint%d(%s.Mask))", f.typ.size*8, f.typ.size*8, name(f.maskOf))
			case f.code != "":
				e.f("e.%s(%s)", f.typ.get, f.code)
			default:
				e.encodeOne(f, name(f))
			}
		case values:
			e.f("%s.encode(e)", name(f))
		case raw:
			e.f("e.bytes(%s)", name(f))
		case array:
			if f.isBytes() {
				e.f("e.bytes(%s[:])", name(f))
				continue
			}
			e.f("for i := range %s {", name(f))
			e.encodeOne(f, name(f)+"[i]")
			e.f("}")
		case list:
			switch {
			case f.isBytes() && f.typ.kind == kindChar:
				e.f("e.text(%s)", name(f))
			case f.isBytes() && f.typ.proto == nil:
				e.f("e.bytes(%s)", name(f))
			default:
				e.f("for i := range %s {", name(f))
				e.encodeOne(f, name(f)+"[i]")
				e.f("}")
			}
		}
	}
	return nil
}

func (e *emitter) encodeOne(f *field, from string) {
	switch f.typ.kind {
	case kindStruct:
		e.f("%s.encode(e)", from)
	case kindUnion:
		e.f("e.bytes(%s[:])", from)
	case kindBool:
		e.f("e.%s(%s)", f.typ.get, from)
	default:
		value := from
		if f.typ.proto != nil || f.enum != nil {
			value = primitiveOf(f.typ.get) + "(" + from + ")"
		}
		e.f("e.%s(%s)", f.typ.get, value)
	}
}

func primitiveOf(get string) string {
	switch get[0] {
	case 'i':
		return "int" + get[1:]
	case 'u':
		return "uint" + get[1:]
	}
	return get
}

// expression turns a length's expression into Go; list is what comes before
// the name of a list of the same message.
func expression(n *node, env func(string) string, list string) (string, error) {
	kid := func(i int) (string, error) {
		if i >= len(n.Kids) {
			return "", fmt.Errorf("%s without an operand", n.tag())
		}
		return expression(n.Kids[i], env, list)
	}
	switch n.tag() {
	case "fieldref":
		return env(n.text()), nil
	case "value":
		v, err := strconv.ParseInt(n.text(), 0, 64)
		return strconv.FormatInt(v, 10), err
	case "listelement-ref":
		return "int(el)", nil
	case "popcount":
		a, err := kid(0)
		return "bits.OnesCount32(uint32(" + a + "))", err
	case "sumof":
		a := "int(el)"
		if len(n.Kids) > 0 {
			var err error
			if a, err = kid(0); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("sumOf(%s%s, func(el %s) int { return %s })", list, camel(n.attr("ref")), "uint32", a), nil
	case "op":
		a, err := kid(0)
		if err != nil {
			return "", err
		}
		b, err := kid(1)
		if err != nil {
			return "", err
		}
		if n.attr("op") == "/" && n.Kids[1].tag() != "value" {
			return "", fmt.Errorf("a division by what the server says")
		}
		return "(" + a + " " + n.attr("op") + " " + b + ")", nil
	}
	return "", fmt.Errorf("no expression: %s", n.tag())
}
