package main

import (
	"fmt"
	"slices"
	"strings"
)

// request writes a request's methods. Without a reply:
//
//	MapWindow(window Window)               sent with others, at the latest by Flush
//	MapWindowChecked(window Window) error  waits until it is known whether it failed
//
// and with one:
//
//	GetGeometry(drawable Drawable) (*GetGeometryReply, error)
//	GetGeometryAsync(drawable Drawable) Cookie[GetGeometryReply]
func (e *emitter) request(r *request) error {
	params, args := e.parameters(r)
	encoder := "encode" + r.goName
	if err := e.requestEncoder(r, encoder, params); err != nil {
		return err
	}
	call := "c, " + args
	if args == "" {
		call = "c"
	}
	if r.reply == nil {
		e.f("// %s sends the request %s (%d).", r.goName, r.name, r.opcode)
		e.f("func (c *Conn) %s(%s) {\nc.send(%s(%s), nil)\n}\n", r.goName, params, encoder, call)
		e.f("// %sChecked sends the request %s and waits until it is done.", r.goName, r.name)
		e.f("func (c *Conn) %sChecked(%s) error {\nreturn c.check(%s(%s))\n}\n", r.goName, params, encoder, call)
		return nil
	}
	e.f("// %s sends the request %s (%d) and waits for its reply.", r.goName, r.name, r.opcode)
	e.f("func (c *Conn) %s(%s) (*%s, error) {\nreturn c.%sAsync(%s).Wait()\n}\n", r.goName, params, r.reply.goName, r.goName, args)
	e.f("// %sAsync sends the request %s; the Cookie waits for its reply.", r.goName, r.name)
	e.f("func (c *Conn) %sAsync(%s) Cookie[%s] {", r.goName, params, r.reply.goName)
	limit := "maxReply"
	if r.reply.bulk {
		limit = "maxBulkReply"
	}
	cookie := "newCookie"
	if slices.ContainsFunc(r.reply.fields, func(f *field) bool { return f.kind == fd }) {
		cookie = "newFileCookie"
	}
	e.f("return "+cookie+"(c, %s(%s), %s, (*%s).decode)\n}\n", encoder, call, limit, r.reply.goName)

	e.f("// %s is the reply to %s.\ntype %s struct {", r.reply.goName, r.name, r.reply.goName)
	e.structFields(r.reply.fields)
	e.f("}\n\nfunc (v *%s) decode(d *decoder) {", r.reply.goName)
	first, rest, err := split(r.reply.fields)
	if err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	e.f("d.skip(1)")
	if first != nil {
		if err := e.decodeFields([]*field{first}, r.reply.fields); err != nil {
			return err
		}
		e.f("d.skip(6)")
	}
	if err := e.decodeFields(rest, r.reply.fields); err != nil {
		return err
	}
	e.f("}\n")
	return nil
}

// parameters gives a request's Go parameters, and their names for a call.
func (e *emitter) parameters(r *request) (params, args string) {
	var ps, as []string
	for _, f := range r.fields {
		if !f.visible() {
			continue
		}
		name := e.argument(f)
		ps = append(ps, name+" "+fieldType(f))
		as = append(as, name)
	}
	// a int, b int -> a, b int
	for i := 0; i+1 < len(ps); i++ {
		_, t1, _ := strings.Cut(ps[i], " ")
		_, t2, _ := strings.Cut(ps[i+1], " ")
		if t1 == t2 {
			ps[i] = as[i]
		}
	}
	return strings.Join(ps, ", "), strings.Join(as, ", ")
}

func (e *emitter) argument(f *field) string {
	if f.kind == values || f.kind == raw {
		return "values"
	}
	return parameter(f.name)
}

func (e *emitter) requestEncoder(r *request, name, params string) error {
	if params != "" {
		params = ", " + params
	}
	fields := r.fields
	if e.p.core {
		first, rest, err := split(fields)
		if err != nil {
			return err
		}
		e.f("func %s(c *Conn%s) *request {\ne := newCoreRequest(%d)", name, params, r.opcode)
		if first == nil {
			e.f("e.pad(3)")
		} else {
			if err := e.encodeFields([]*field{first}, e.argument); err != nil {
				return err
			}
			e.f("e.pad(2)")
		}
		fields = rest
	} else {
		e.f("func %s(c *Conn%s) *request {\ne := newRequest(c, %s, %d)", name, params, e.p.extension(), r.opcode)
	}
	// Bytes at the end are sent from where they lie.
	tail := ""
	n := len(fields)
	if n > 0 && fields[n-1].kind == align {
		n--
	}
	if n > 0 && fields[n-1].kind == list && fieldType(fields[n-1]) == "[]byte" {
		tail = e.argument(fields[n-1])
		fields = fields[:n-1]
	}
	if err := e.encodeFields(fields, e.argument); err != nil {
		return err
	}
	if tail != "" {
		e.f("return e.finish(%s)\n}\n", tail)
	} else {
		e.f("return e.finish(nil)\n}\n")
	}
	return nil
}
