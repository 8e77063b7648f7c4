package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

type message struct {
	Text  string   `cbor:"1,keyasint"`
	Bytes []byte   `cbor:"2,keyasint"`
	More  []string `cbor:"3,keyasint,omitempty"`
}

// wire is what these messages are as bytes, and where each frame begins.
func wire(t testing.TB, messages ...message) (data []byte, begins []int) {
	var b bytes.Buffer
	f := NewFrames(&b)
	for i, m := range messages {
		begins = append(begins, b.Len())
		if err := f.Send(FrameType(i+1), m); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes(), begins
}

func reading(data []byte) *Frames {
	return NewFrames(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(data), io.Discard})
}

func TestFramesGoAndCome(t *testing.T) {
	data, _ := wire(t, message{Text: "one"}, message{Bytes: make([]byte, 200<<10)}, message{More: []string{"a", "b"}})
	f := reading(data)
	var m message
	if err := f.ReceiveInto(1, &m, 100); err != nil || m.Text != "one" {
		t.Fatal(m, err)
	}
	if err := f.ReceiveInto(2, &m, 1<<20); err != nil || len(m.Bytes) != 200<<10 {
		t.Fatal(len(m.Bytes), err)
	}
	err := f.ReceiveInto(9, &m, 100)
	if wrong, ok := errors.AsType[*FrameTypeError](err); !ok || wrong.Got != 3 || wrong.Want != 9 {
		t.Fatal(err)
	}
	if _, err := f.Receive(100); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
}

func TestFrameTooLarge(t *testing.T) {
	data, _ := wire(t, message{Bytes: make([]byte, 1000)})
	_, err := reading(data).Receive(999)
	if large, ok := errors.AsType[*FrameSizeError](err); !ok || large.Max != 999 || large.Size < 1000 {
		t.Fatal(err)
	}
	// Who declares 1 GiB and sends nothing must not cost 1 GiB.
	head := binary.BigEndian.AppendUint32(nil, 1<<30)
	head = append(head, 0, 1, 0, 1, 0, 0, 0, 0)
	before := heap()
	f := reading(head)
	if _, err := f.Receive(1 << 30); !errors.Is(err, ErrFrameCut) {
		t.Fatal(err)
	}
	if grown := int64(heap()) - int64(before); grown > 1<<20 {
		t.Fatalf("a declared frame costs %d bytes", grown)
	}
}

// Every cut and every flipped bit is an error, and never a wrong message.
func TestFrameCutAndDamaged(t *testing.T) {
	data, _ := wire(t, message{Text: "hello", Bytes: []byte{1, 2, 3}, More: []string{"x"}})
	for n := 1; n < len(data); n++ {
		if _, err := reading(data[:n]).Receive(100); !errors.Is(err, ErrFrameCut) {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
	}
	for bit := range 8 * len(data) {
		bad := bytes.Clone(data)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := reading(bad).Receive(100)
		_, damaged := errors.AsType[*FrameDamagedError](err)
		_, large := errors.AsType[*FrameSizeError](err)
		if !damaged && !large && !errors.Is(err, ErrFrameCut) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
}

func TestFramesSwappedLostDoubled(t *testing.T) {
	data, at := wire(t, message{Text: "one"}, message{Text: "two"}, message{Text: "six"})
	one, two, three := data[:at[1]], data[at[1]:at[2]], data[at[2]:]
	for name, parts := range map[string][][]byte{
		"swapped": {one, three, two},
		"lost":    {one, three},
		"doubled": {one, one, two},
	} {
		f := reading(bytes.Join(parts, nil))
		if _, err := f.Receive(100); err != nil {
			t.Fatal(name, err)
		}
		_, err := f.Receive(100)
		if _, ok := errors.AsType[*FrameDamagedError](err); !ok {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// Bodies with a good sum and hostile CBOR.
func TestHostileBodies(t *testing.T) {
	nested := append(bytes.Repeat([]byte{0x81}, 100), 0x00)
	for name, body := range map[string][]byte{
		"empty":           {},
		"key twice":       {0xa2, 0x01, 0x61, 'a', 0x01, 0x61, 'b'},
		"nested too deep": append([]byte{0xa1, 0x09}, nested...),
		"huge array":      {0xa1, 0x03, 0x9a, 0x7f, 0xff, 0xff, 0xff},
		"huge text":       {0xa1, 0x01, 0x7b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"indefinite":      {0xbf, 0x01, 0x61, 'a', 0xff},
		"wrong type":      {0xa1, 0x01, 0x18, 0x2a},
		"something after": {0xa0, 0x00},
	} {
		var m message
		err := Frame{Type: 1, Body: body}.Decode(&m)
		if _, ok := errors.AsType[*FrameDamagedError](err); !ok {
			t.Errorf("%s: %v (%+v)", name, err, m)
		}
	}
}

func FuzzFrames(f *testing.F) {
	good, _ := wire(f, message{Text: "one", More: []string{"a"}}, message{Bytes: []byte("two")})
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<31))
	f.Fuzz(func(t *testing.T, data []byte) {
		frames := reading(data)
		for {
			frame, err := frames.Receive(1 << 16)
			if err != nil {
				return
			}
			if len(frame.Body) > len(data) {
				t.Fatalf("a body of %d bytes out of %d", len(frame.Body), len(data))
			}
			var m message
			_ = frame.Decode(&m)
			var h Hello
			_ = frame.Decode(&h)
			h.clean()
		}
	})
}

// FuzzBody skips the sum, which the fuzzer can hardly guess.
func FuzzBody(f *testing.F) {
	f.Add([]byte{0xa1, 0x01, 0x61, 'a'})
	h := Hello{Name: "a", Abilities: &Abilities{Kernel: "6.18", CPUs: 2, Load: 0.5, Memory: 8 << 30, MemoryFree: 1 << 30, Display: true, UID: 1000}}
	if body, err := encoding.Marshal(h); err == nil {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var m message
		_ = Frame{Body: body}.Decode(&m)
		var h Hello
		if err := (Frame{Body: body}).Decode(&h); err == nil {
			c := h.clean()
			if err := CheckName(c.Name); err != nil {
				t.Fatal(err)
			}
			if a := c.Abilities; a != nil && (a.CPUs < 0 || !(a.Load >= 0 && a.Load <= maxLoad) || a.MemoryFree > a.Memory || len(a.Kernel) > 4*maxName) {
				t.Fatalf("%+v", a)
			}
		}
	})
}
