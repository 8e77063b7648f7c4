package handover

import (
	"strings"
	"unicode"
)

// What another host says to people ends up in terminals, logs and windows here.
const (
	maxWords = 4000 // bytes of a reason, a problem, a note
	maxNames = 200  // of a name, or of what is waited for
)

// Plain keeps a text of another host short, and from playing with a terminal.
func Plain(text string, most int) string {
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}

// PlainProblems is Plain for problems.
func PlainProblems(all []Problem) {
	for i := range all {
		p := &all[i]
		p.What, p.Cure, p.Side = Plain(p.What, maxWords), Plain(p.Cure, maxWords), Plain(p.Side, maxNames)
	}
}

// clean makes all that is for people in a frame Plain.
func (m *message) clean() {
	notes := func(all []string) {
		for i := range all {
			all[i] = Plain(all[i], maxWords)
		}
	}
	m.Reason = Plain(m.Reason, maxWords)
	notes(m.Notes)
	if o := m.Offer; o != nil {
		o.Name, o.From = Plain(o.Name, maxNames), Plain(o.From, maxNames)
		notes(o.Notes)
		notes(o.Needs)
	}
	if a := m.Answer; a != nil {
		a.Host = Plain(a.Host, maxNames)
		PlainProblems(a.Problems)
		notes(a.Notes)
	}
	if p := m.Progress; p != nil {
		p.App, p.State, p.Note = Plain(p.App, maxNames), State(Plain(string(p.State), maxNames)), Plain(p.Note, maxNames)
	}
	if r := m.Result; r != nil {
		r.App, r.From, r.To, r.Reason = Plain(r.App, maxNames), Plain(r.From, maxNames), Plain(r.To, maxNames), Plain(r.Reason, maxWords)
		PlainProblems(r.Problems)
		notes(r.Notes)
	}
}
