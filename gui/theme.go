package gui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"
)

// Colours beside those that Fyne knows.
const (
	colorCard      fyne.ThemeColorName = "hither-card"
	colorCardHover fyne.ThemeColorName = "hither-card-hover"
	colorLine      fyne.ThemeColorName = "hither-line"       // around a card
	colorWell      fyne.ThemeColorName = "hither-well"       // behind a picture
	colorMuted     fyne.ThemeColorName = "hither-muted"      // text that is not the first thing to read
	colorGood      fyne.ThemeColorName = "hither-good"       // text and signs
	colorGoodBack  fyne.ThemeColorName = "hither-good-back"  // behind them
	colorWarn      fyne.ThemeColorName = "hither-warn"       // 'not now', 'take care'
	colorWarnBack  fyne.ThemeColorName = "hither-warn-back"  //
	colorBad       fyne.ThemeColorName = "hither-bad"        // errors, danger
	colorBadBack   fyne.ThemeColorName = "hither-bad-back"   //
	colorAccent    fyne.ThemeColorName = "hither-accent"     // what is going on
	colorAccentBk  fyne.ThemeColorName = "hither-accentback" //
	colorToast     fyne.ThemeColorName = "hither-toast"
	colorToastText fyne.ThemeColorName = "hither-toast-text"
)

// Spacing: everything stands a multiple of gap apart.
const (
	gap    float32 = 8
	radius float32 = 12 // of a card
	inner  float32 = 8  // radius of what lies in a card
)

// Sizes of text.
const (
	textTitle float32 = 20
	textHead  float32 = 15
	textBody  float32 = 13
	textSmall float32 = 12
)

// Appearance is what a person chose: system, light or dark.
type Appearance string

const (
	AppearSystem Appearance = "system"
	AppearLight  Appearance = "light"
	AppearDark   Appearance = "dark"
)

// look is hither's theme.
type look struct{ appearance Appearance }

var _ fyne.Theme = look{}

func (l look) dark(v fyne.ThemeVariant) bool {
	switch l.appearance {
	case AppearLight:
		return false
	case AppearDark:
		return true
	}
	return v == theme.VariantDark
}

// pair is a colour in light and in dark, as 0xRRGGBBAA.
type pair struct{ light, dark uint32 }

var palette = map[fyne.ThemeColorName]pair{
	colorCard:      {0xffffffff, 0x20242cff},
	colorCardHover: {0xfafbffff, 0x262b35ff},
	colorLine:      {0xdfe3ebff, 0x323844ff},
	colorWell:      {0xeef1f6ff, 0x171a20ff},
	colorMuted:     {0x5d6675ff, 0xa0a9b8ff},
	colorGood:      {0x0b7a6dff, 0x4cd3c0ff},
	colorGoodBack:  {0xdcf5f0ff, 0x14403bff},
	colorWarn:      {0x8f5600ff, 0xffc15cff},
	colorWarnBack:  {0xfff0d3ff, 0x46361aff},
	colorBad:       {0xb3261eff, 0xff938aff},
	colorBadBack:   {0xfde4e1ff, 0x4d2421ff},
	colorAccent:    {0x2f55c8ff, 0x8fabffff},
	colorAccentBk:  {0xe4ebffff, 0x27335aff},
	colorToast:     {0x262c38ff, 0xe9edf5ff},
	colorToastText: {0xf4f6faff, 0x1b2029ff},

	theme.ColorNameBackground:          {0xf3f5f9ff, 0x15181dff},
	theme.ColorNameForeground:          {0x1a1f29ff, 0xeceff5ff},
	theme.ColorNamePrimary:             {0x2f55c8ff, 0x5b82f5ff},
	theme.ColorNameForegroundOnPrimary: {0xffffffff, 0xffffffff},
	theme.ColorNameButton:              {0xe6eaf2ff, 0x303642ff},
	theme.ColorNameDisabledButton:      {0xeceff4ff, 0x272c35ff},
	theme.ColorNameDisabled:            {0xa3abb8ff, 0x6b7482ff},
	theme.ColorNamePlaceHolder:         {0x6b7482ff, 0x8a93a2ff},
	theme.ColorNameFocus:               {0x2f55c840, 0x5b82f566},
	theme.ColorNameHover:               {0x1a1f290d, 0xffffff12},
	theme.ColorNamePressed:             {0x1a1f291f, 0xffffff1f},
	theme.ColorNameSelection:           {0x2f55c833, 0x5b82f54d},
	theme.ColorNameInputBackground:     {0xffffffff, 0x20242cff},
	theme.ColorNameInputBorder:         {0xccd2deff, 0x414958ff},
	theme.ColorNameMenuBackground:      {0xffffffff, 0x272c36ff},
	theme.ColorNameOverlayBackground:   {0xffffffff, 0x20242cff},
	theme.ColorNameHeaderBackground:    {0xffffffff, 0x1a1d23ff},
	theme.ColorNameSeparator:           {0xe3e7eeff, 0x323844ff},
	theme.ColorNameScrollBar:           {0x1a1f2959, 0xffffff59},
	theme.ColorNameScrollBarBackground: {0x00000000, 0x00000000},
	theme.ColorNameShadow:              {0x0f172a38, 0x00000080},
	theme.ColorNameError:               {0xc0362cff, 0xff7b70ff},
	theme.ColorNameForegroundOnError:   {0xffffffff, 0x1b0f0eff},
	theme.ColorNameSuccess:             {0x0b7a6dff, 0x4cd3c0ff},
	theme.ColorNameWarning:             {0xb26b00ff, 0xffb224ff},
	theme.ColorNameHyperlink:           {0x2f55c8ff, 0x8fabffff},
}

func rgba(v uint32) color.NRGBA {
	return color.NRGBA{R: uint8(v >> 24), G: uint8(v >> 16), B: uint8(v >> 8), A: uint8(v)}
}

func (l look) Color(name fyne.ThemeColorName, v fyne.ThemeVariant) color.Color {
	p, ok := palette[name]
	if !ok {
		if l.dark(v) {
			return theme.DefaultTheme().Color(name, theme.VariantDark)
		}
		return theme.DefaultTheme().Color(name, theme.VariantLight)
	}
	if l.dark(v) {
		return rgba(p.dark)
	}
	return rgba(p.light)
}

func (l look) Font(s fyne.TextStyle) fyne.Resource { return theme.DefaultTheme().Font(s) }

func (l look) Icon(n fyne.ThemeIconName) fyne.Resource { return theme.DefaultTheme().Icon(n) }

func (l look) Size(n fyne.ThemeSizeName) float32 {
	switch n {
	case theme.SizeNameText:
		return textBody
	case theme.SizeNameCaptionText:
		return textSmall
	case theme.SizeNameSubHeadingText:
		return textHead
	case theme.SizeNameHeadingText:
		return textTitle
	case theme.SizeNamePadding:
		return 4
	case theme.SizeNameInnerPadding:
		return 8
	case theme.SizeNameInlineIcon:
		return 18
	case theme.SizeNameInputRadius, theme.SizeNameSelectionRadius, theme.SizeNameButtonRadius:
		return 8
	case theme.SizeNamePopupRadius, theme.SizeNameDialogRadius, theme.SizeNameCardRadius:
		return radius + 4
	case theme.SizeNameMenuRadius:
		return 10
	case theme.SizeNameModalBlurRadius:
		return 0 // it would be drawn anew with every change below, which costs more than it gives
	case theme.SizeNameScrollBar:
		return 10
	case theme.SizeNameScrollBarSmall:
		return 4
	}
	return theme.DefaultTheme().Size(n)
}
