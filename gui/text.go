package gui

import (
	"image/color"
	"strings"
	"unicode"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// text is text of at most so many lines, which always takes the height of all of them: so nothing
// jumps when it changes. What does not fit ends in an ellipsis.
type text struct {
	widget.BaseWidget
	size  float32
	color fyne.ThemeColorName
	style fyne.TextStyle
	align fyne.TextAlign
	// shrink: it takes the height of the lines that it has.
	shrink bool
	// wide: it wants the width of its text, of one line.
	wide bool

	said  string
	lines []*canvas.Text
}

type textOption func(*text)

func muted(t *text)    { t.color = colorMuted }
func bold(t *text)     { t.style.Bold = true }
func small(t *text)    { t.size = textSmall }
func head(t *text)     { t.size, t.style.Bold = textHead, true }
func title(t *text)    { t.size, t.style.Bold = textTitle, true }
func centered(t *text) { t.align = fyne.TextAlignCenter }
func shrink(t *text)   { t.shrink = true }
func wide(t *text)     { t.wide = true }

func colored(c fyne.ThemeColorName) textOption { return func(t *text) { t.color = c } }

func newText(lines int, said string, options ...textOption) *text {
	t := &text{size: textBody, color: theme.ColorNameForeground, said: said}
	for _, o := range options {
		o(t)
	}
	for range lines {
		t.lines = append(t.lines, canvas.NewText("", color.Transparent))
	}
	t.ExtendBaseWidget(t)
	return t
}

// set changes the text, and draws only if it is another one.
func (t *text) set(said string) {
	if t.said != said {
		t.said = said
		t.Refresh()
	}
}

// paint changes the colour.
func (t *text) paint(c fyne.ThemeColorName) {
	if t.color != c {
		t.color = c
		t.Refresh()
	}
}

func (t *text) CreateRenderer() fyne.WidgetRenderer {
	r := &textRenderer{t: t}
	for _, l := range t.lines {
		r.objects = append(r.objects, l)
	}
	r.Refresh()
	return r
}

func (t *text) lineHeight() float32 {
	return fyne.MeasureText("Mg", t.size, t.style).Height
}

type textRenderer struct {
	t       *text
	objects []fyne.CanvasObject
}

func (r *textRenderer) Destroy()                     {}
func (r *textRenderer) Objects() []fyne.CanvasObject { return r.objects }

func (r *textRenderer) MinSize() fyne.Size {
	n := len(r.t.lines)
	if r.t.shrink && r.t.Size().Width > 0 {
		n = max(1, len(wrap(r.t.said, n, r.t.Size().Width, r.t.measure)))
	}
	var width float32
	if r.t.wide {
		width = r.t.measure(r.t.said)
	}
	return fyne.NewSize(width, r.t.lineHeight()*float32(n))
}

func (t *text) measure(s string) float32 { return fyne.MeasureText(s, t.size, t.style).Width }

func (r *textRenderer) Layout(size fyne.Size) {
	height := r.t.lineHeight()
	lines := wrap(r.t.said, len(r.t.lines), size.Width, r.t.measure)
	for i, l := range r.t.lines {
		said := ""
		if i < len(lines) {
			said = lines[i]
		}
		l.Resize(fyne.NewSize(size.Width, height))
		l.Move(fyne.NewPos(0, float32(i)*height))
		c := theme.Color(r.t.color)
		if l.Text != said || l.Color != c || l.TextSize != r.t.size || l.Alignment != r.t.align {
			l.Text, l.Color, l.TextSize, l.TextStyle, l.Alignment = said, c, r.t.size, r.t.style, r.t.align
			l.Refresh()
		}
	}
}

func (r *textRenderer) Refresh() { r.Layout(r.t.Size()) }

// wrap breaks text into at most n lines of a width; the last one is cut with an ellipsis.
func wrap(s string, n int, width float32, measure func(string) float32) []string {
	if width <= 0 {
		return nil
	}
	s = strings.Join(strings.Fields(s), " ")
	var lines []string
	for s != "" && len(lines) < n {
		if len(lines) == n-1 || measure(s) <= width {
			lines = append(lines, cut(s, width, measure))
			break
		}
		line, rest := breakLine(s, width, measure)
		lines = append(lines, line)
		s = rest
	}
	return lines
}

// breakLine takes as many words as fit; a word that is too long alone is broken.
func breakLine(s string, width float32, measure func(string) float32) (line, rest string) {
	end := 0
	for i, r := range s + " " {
		if !unicode.IsSpace(r) {
			continue
		}
		if measure(s[:i]) > width {
			break
		}
		end = i
	}
	if end > 0 {
		return s[:end], strings.TrimLeft(s[end:], " ")
	}
	fits := fitting([]rune(s), width, measure)
	return string([]rune(s)[:fits]), string([]rune(s)[fits:])
}

// fitting is how many runes fit, at least one.
func fitting(r []rune, width float32, measure func(string) float32) int {
	low, high := 1, len(r)
	for low < high {
		mid := (low + high + 1) / 2
		if measure(string(r[:mid])) <= width {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return min(low, len(r))
}

func cut(s string, width float32, measure func(string) float32) string {
	if measure(s) <= width {
		return s
	}
	r := []rune(s)
	fits := fitting(r, width-measure("…"), measure)
	return strings.TrimRight(string(r[:fits]), " ,.;:") + "…"
}
