package xwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// maxAuthority bounds the authority file; a usual one has some 100 bytes.
const maxAuthority = 1 << 20

// Families of addresses in an authority file (Xau.h).
const (
	familyLocal = 256
	familyWild  = 65535
)

const cookieName = "MIT-MAGIC-COOKIE-1"

// authEntry is one entry of an authority file.
type authEntry struct {
	family  uint16
	address string
	number  string // the display's
	name    string
	data    []byte
}

// parseAuthority reads an authority file: entries of a family and four strings,
// each with its length before it, all big endian.
func parseAuthority(b []byte) ([]authEntry, error) {
	var out []authEntry
	next := func() ([]byte, error) {
		if len(b) < 2 {
			return nil, errShort
		}
		n := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+n {
			return nil, errShort
		}
		s := b[2 : 2+n]
		b = b[2+n:]
		return s, nil
	}
	for len(b) > 0 {
		if len(b) < 2 {
			return out, errShort
		}
		e := authEntry{family: binary.BigEndian.Uint16(b)}
		b = b[2:]
		var s [4][]byte
		for i := range s {
			var err error
			if s[i], err = next(); err != nil {
				return out, err
			}
		}
		e.address, e.number, e.name, e.data = string(s[0]), string(s[1]), string(s[2]), s[3]
		out = append(out, e)
	}
	return out, nil
}

// chooseAuth finds the cookie for a display of this host, as libXau does.
func chooseAuth(entries []authEntry, host string, display int) Auth {
	for _, e := range entries {
		if e.name == cookieName &&
			(e.family == familyWild || e.family == familyLocal && e.address == host) &&
			(e.number == "" || e.number == strconv.Itoa(display)) {
			return Auth{Name: e.name, Data: e.data}
		}
	}
	return Auth{}
}

// readAuth gives the cookie for a display from an authority file; empty for the
// one of the environment. None is no error: the server may let us in without.
func readAuth(file string, display int) (Auth, error) {
	if file == "" {
		file = os.Getenv("XAUTHORITY")
	}
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Auth{}, nil
		}
		file = filepath.Join(home, ".Xauthority")
	}
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Auth{}, nil
	}
	if err == nil && (info.Size() > maxAuthority || !info.Mode().IsRegular()) {
		err = fmt.Errorf("%s is no authority file of X", file)
	}
	if err != nil {
		return Auth{}, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return Auth{}, err
	}
	entries, err := parseAuthority(b)
	if err != nil && len(entries) == 0 {
		return Auth{}, fmt.Errorf("%s: %w", file, err)
	}
	host, err := os.Hostname()
	if err != nil {
		return Auth{}, err
	}
	return chooseAuth(entries, host, display), nil
}
