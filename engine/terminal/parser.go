package terminal

import "unicode/utf8"

// Limits of the parser: whatever an app writes, this is all that is kept of a
// sequence under way.
const (
	maxParams  = 32
	maxParam   = 1<<16 - 1
	maxString  = 4096 // an OSC's text
	maxPartial = 8192 // bytes of an unfinished sequence, for the hand-over
)

// A sink takes what the parser finds in the output of an app.
type sink interface {
	text(ascii []byte) // printable ASCII
	print(r rune)      // any other printable character
	control(b byte)    // C0
	escape(inter, final byte)
	csi(s *sequence)
	osc(text []byte)
}

// sequence is a control sequence: ESC [ prefix params inter final.
type sequence struct {
	prefix byte // one of < = > ? or 0
	inter  byte
	final  byte
	params [maxParams]uint16 // 0 stands for 'not given', too
	colon  [maxParams]bool   // params[i] hangs on params[i-1] by a colon
	n      int
}

// arg is parameter i, or def if it is not given or 0.
func (s *sequence) arg(i, def int) int {
	if i >= s.n || s.params[i] == 0 {
		return def
	}
	return int(s.params[i])
}

type parserState uint8

const (
	ground      parserState = iota
	inUTF8                  // a character's bytes are incomplete
	inEscape                // after ESC
	inEscInter              // after ESC and an intermediate byte
	inCSI                   // after ESC [
	inCSIIgnore             // a malformed control sequence
	inOSC                   // after ESC ]
	inString                // after ESC P, X, ^ or _ : skipped
)

// parser splits output into text and sequences after the state machine of the
// VT500 (vt100.net/emu/dec_ansi_parser), with UTF-8. It keeps its place across
// any split of the input.
type parser struct {
	state  parserState
	inter  byte
	seq    sequence
	digits bool // the current parameter was begun
	str    []byte
	utf    [utf8.UTFMax]byte
	utfN   int

	// partial holds what came of an unfinished sequence: whoever begins to
	// read the stream here needs it. partialLost says it grew too long.
	partial     []byte
	partialLost bool
}

// settled says whether the stream can be joined here.
func (p *parser) settled() bool { return !p.partialLost }

// feed parses data.
func (p *parser) feed(data []byte, to sink) {
	start := 0 // where the unfinished sequence begins in data
	for i := 0; i < len(data); {
		b := data[i]
		if p.state == ground {
			if b >= 0x20 && b < 0x7f {
				j := i + 1
				for j < len(data) && data[j] >= 0x20 && data[j] < 0x7f {
					j++
				}
				to.text(data[i:j])
				i = j
				continue
			}
			if b < 0x20 && b != 0x1b {
				to.control(b)
				i++
				continue
			}
			start = i
			p.partial, p.partialLost = p.partial[:0], false
		}
		i += p.step(b, data[i:], to)
		if b == 0x1b {
			start = i - 1
			p.partial, p.partialLost = p.partial[:0], false
		}
	}
	if p.state == ground {
		p.partial, p.partialLost = p.partial[:0], false
		return
	}
	for _, b := range data[min(start, len(data)):] {
		if b < 0x20 && b != 0x1b {
			continue // carried out already, or without meaning
		}
		if len(p.partial) >= maxPartial {
			p.partialLost = true
			break
		}
		p.partial = append(p.partial, b)
	}
}

// step takes b, the first of rest, outside plain text, and returns how many
// bytes it took: 0 if b is to be looked at again.
func (p *parser) step(b byte, rest []byte, to sink) int {
	if p.state == inUTF8 {
		if b&0xc0 != 0x80 {
			p.state = ground
			to.print(utf8.RuneError)
			return 0
		}
		p.utf[p.utfN] = b
		p.utfN++
		p.endUTF8(to)
		return 1
	}
	switch b {
	case 0x1b:
		if p.state == inOSC {
			to.osc(p.str)
		}
		p.state, p.inter = inEscape, 0
		return 1
	case 0x18, 0x1a: // CAN, SUB
		p.state = ground
		return 1
	}
	switch p.state {
	case ground:
		switch {
		case b < 0x80: // DEL
		case b < 0xc2 || b > 0xf4:
			to.print(utf8.RuneError)
		default:
			if r, n := utf8.DecodeRune(rest); n > 1 {
				printRune(r, to)
				return n
			}
			p.utf[0], p.utfN, p.state = b, 1, inUTF8
		}
	case inEscape, inEscInter:
		p.stepEscape(b, to)
	case inCSI, inCSIIgnore:
		p.stepCSI(b, to)
	case inOSC:
		switch {
		case b == 0x07:
			p.state = ground
			to.osc(p.str)
		case b >= 0x20 && len(p.str) < maxString:
			p.str = append(p.str, b)
		}
	case inString:
		// Ends by ESC, CAN or SUB.
	}
	return 1
}

// endUTF8 prints the character if it is complete, or cannot become one.
func (p *parser) endUTF8(to sink) {
	got := p.utf[:p.utfN]
	if !utf8.FullRune(got) {
		return
	}
	p.state = ground
	r, n := utf8.DecodeRune(got)
	if n == p.utfN {
		printRune(r, to)
		return
	}
	for range got {
		to.print(utf8.RuneError)
	}
}

// printRune prints r unless it is one of the C1 controls, which nobody sends
// in UTF-8 and which terminals take differently.
func printRune(r rune, to sink) {
	if r >= 0xa0 {
		to.print(r)
	}
}

func (p *parser) stepEscape(b byte, to sink) {
	switch {
	case b < 0x20:
		to.control(b)
	case b < 0x30:
		if p.state == inEscInter {
			p.inter = 0xff // more than one: known to nobody
		} else {
			p.inter = b
		}
		p.state = inEscInter
	case b >= 0x7f:
		if b >= 0x80 {
			p.state = ground
		}
	case p.state == inEscInter:
		p.state = ground
		to.escape(p.inter, b)
	case b == '[':
		p.state, p.seq, p.digits = inCSI, sequence{}, false
	case b == ']':
		p.state, p.str = inOSC, p.str[:0]
	case b == 'P' || b == 'X' || b == '^' || b == '_':
		p.state = inString
	default:
		p.state = ground
		to.escape(0, b)
	}
}

func (p *parser) stepCSI(b byte, to sink) {
	s := &p.seq
	switch {
	case b < 0x20:
		to.control(b)
	case b >= 0x80:
		p.state = ground
	case b == 0x7f:
	case b >= 0x40:
		if p.state == inCSI {
			s.final = b
			p.state = ground
			to.csi(s)
		}
		p.state = ground
	case p.state == inCSIIgnore:
	case b >= '0' && b <= '9':
		if s.inter != 0 || !p.param() {
			p.state = inCSIIgnore
			return
		}
		s.params[s.n-1] = uint16(min(int(s.params[s.n-1])*10+int(b-'0'), maxParam))
	case b == ';' || b == ':':
		if s.inter != 0 || !p.param() {
			p.state = inCSIIgnore
			return
		}
		if s.n < maxParams {
			s.colon[s.n] = b == ':'
			s.n++
		} else {
			p.state = inCSIIgnore
		}
	case b >= 0x3c: // < = > ?
		if p.digits || s.prefix != 0 || s.inter != 0 {
			p.state = inCSIIgnore
			return
		}
		s.prefix = b
	default: // intermediates
		if s.inter != 0 {
			p.state = inCSIIgnore
			return
		}
		s.inter = b
	}
}

// param begins the first parameter.
func (p *parser) param() bool {
	if !p.digits {
		p.digits = true
		p.seq.n = 1
	}
	return p.seq.n <= maxParams
}
