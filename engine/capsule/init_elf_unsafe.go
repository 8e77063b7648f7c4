//go:build linux && amd64

package capsule

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"
)

// initCode is the program of pid 1, in init_amd64.s. It is data to Go.
//
//lint:ignore U1000 vet wants a declaration of what the assembly defines
func initCode()

// initCodeAddress is where initCode lies; a Go func value of an assembly
// function would point to a wrapper.
func initCodeAddress() uintptr

// initCodeMax bounds the search for the end mark.
const initCodeMax = 2048

var initCodeEnd = []byte("hither..")

// initText is the program's machine code.
func initText() ([]byte, error) {
	at := initCodeAddress()
	code := unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), initCodeMax)
	n := bytes.Index(code, initCodeEnd)
	if n < 0 {
		return nil, fmt.Errorf("finding the end of pid 1's code: this hither was built wrongly")
	}
	return code[:n], nil
}

// initELF is a static executable of one page with the program in it: an ELF
// header, one loadable segment (read, execute) and a PT_GNU_STACK that keeps
// the stack from being executable.
func initELF() ([]byte, error) {
	text, err := initText()
	if err != nil {
		return nil, err
	}
	const base, headers = 0x400000, 64 + 2*56
	var b bytes.Buffer
	put := func(v ...any) {
		for _, x := range v {
			binary.Write(&b, binary.LittleEndian, x) //nolint:errcheck // a bytes.Buffer does not fail
		}
	}
	size := uint64(headers + len(text))
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	put(uint16(2), uint16(62), uint32(1)) // ET_EXEC, EM_X86_64
	put(uint64(base+headers), uint64(64), uint64(0), uint32(0))
	put(uint16(64), uint16(56), uint16(2), uint16(0), uint16(0), uint16(0))
	put(uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x1000))          // PT_LOAD
	put(uint32(0x6474e551), uint32(6), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(16)) // PT_GNU_STACK
	b.Write(text)
	return b.Bytes(), nil
}
