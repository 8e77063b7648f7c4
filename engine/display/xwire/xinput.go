package xwire

// XIScroll is a device's axis that stands for a wheel: Increment on the
// valuator Number is one step.
type XIScroll struct {
	Number    uint16
	Type      uint16 // XIScrollTypeVertical or Horizontal
	Flags     uint32
	Increment float64
}

// Scroll reads a class of the type XIDeviceClassTypeScroll.
func (v *XIDeviceClass) Scroll() (XIScroll, bool) {
	if v.Type != XIDeviceClassTypeScroll {
		return XIScroll{}, false
	}
	d := &decoder{b: v.Data}
	s := XIScroll{Number: d.u16(), Type: d.u16()}
	d.skip(2)
	s.Flags = d.u32()
	var f XIFp3232
	f.decode(d)
	s.Increment = f.Float()
	return s, d.err == nil
}

// Float is the number's value.
func (v XIFp3232) Float() float64 { return float64(v.Integral) + float64(v.Frac)/(1<<32) }

// Float is the number's value.
func (v XIFp1616) Float() float64 { return float64(v) / (1 << 16) }

// Valuators gives an event's axes by their numbers, from its mask and values.
func Valuators(mask []uint32, values []XIFp3232) map[int]float64 {
	out := make(map[int]float64, len(values))
	for i := range 32 * len(mask) {
		if mask[i/32]&(1<<(i%32)) != 0 && len(out) < len(values) {
			out[i] = values[len(out)].Float()
		}
	}
	return out
}
