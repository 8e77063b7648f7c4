package transport

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

const (
	cardPrefix   = "hither-card:1,"
	maxCard      = 4096
	maxName      = 64
	maxAddress   = 260
	maxAddresses = 16
)

// Card is what one host gives another to be paired with: one line of text, to
// be pasted, mailed or copied. It holds no secret, but it must come from whom
// it claims to come from: who can change it on the way can take its place.
type Card struct {
	Name      string
	Key       ed25519.PublicKey
	Addresses []string
}

// ID is the ID of the host the card is of.
func (c Card) ID() ID { return IDOf(c.Key) }

// Peer is the entry for the book of trust that the card asks for.
func (c Card) Peer() Peer {
	return Peer{ID: c.ID(), Name: c.Name, Key: c.Key, Addresses: c.Addresses}
}

// String is the card as one line:
//
//	hither-card:1,NAME,KEY,ADDRESS,...,SUM
//
// KEY is base64url; SUM, the beginning of a SHA-256, finds slips in copying.
func (c Card) String() string {
	fields := append([]string{c.Name, base64.RawURLEncoding.EncodeToString(c.Key)}, c.Addresses...)
	line := cardPrefix + strings.Join(fields, ",")
	return line + "," + cardSum(line)
}

// ParseCard reads a card; space and line ends around it do not matter.
func ParseCard(text string) (Card, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxCard {
		return Card{}, fmt.Errorf("reading a card: longer than %d bytes", maxCard)
	}
	if !strings.HasPrefix(text, cardPrefix) {
		return Card{}, fmt.Errorf("reading a card: it does not begin with %q: copy the whole line that 'hither pair --export' printed on the other host", cardPrefix)
	}
	cut := strings.LastIndexByte(text, ',')
	line, sum := text[:cut], text[cut+1:]
	if len(line) < len(cardPrefix) || cardSum(line) != sum {
		return Card{}, errors.New("reading a card: it is damaged or cut off: copy the whole line again")
	}
	fields := strings.Split(line[len(cardPrefix):], ",")
	if len(fields) < 2 {
		return Card{}, errors.New("reading a card: name or key is missing")
	}
	key, err := base64.RawURLEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		return Card{}, fmt.Errorf("reading a card's key: %w", err)
	}
	c := Card{Name: fields[0], Key: key, Addresses: fields[2:]}
	if err := c.Peer().check(); err != nil {
		return Card{}, fmt.Errorf("reading a card: %w", err)
	}
	return c, nil
}

func cardSum(line string) string {
	sum := sha256.Sum256([]byte(line))
	return strings.ToLower(idEncoding.EncodeToString(sum[:5]))
}

// CheckName says what is wrong with a host's name. Names come from other
// machines and land in terminals, file names and APP@PEER, so they are plain.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("a host's name has 1 to %d characters, not %d", maxName, len(name))
	}
	for i, r := range name {
		if !plain(r) || i == 0 && (r == '-' || r == '.') {
			return fmt.Errorf("a host's name has letters, digits, '-', '_' and '.' only: %q has %q", name, r)
		}
	}
	return nil
}

// CleanName makes an acceptable name of any text, such as a host name.
func CleanName(text string) string {
	name := strings.Map(func(r rune) rune {
		if plain(r) {
			return r
		}
		return '-'
	}, text)
	name = strings.TrimLeft(name, "-.")
	if len(name) > maxName {
		name = name[:maxName]
	}
	if name == "" {
		return "host"
	}
	return name
}

func plain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.'
}

// CheckAddress says what is wrong with an address "host:port". The host is an
// address (IPv6 in brackets, with a zone if it needs one) or a name.
func CheckAddress(address string) error {
	if len(address) > maxAddress {
		return fmt.Errorf("address is longer than %d characters", maxAddress)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q is not host:port: %w", address, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("address %q has no port from 1 to 65535", address)
	}
	if host == "" {
		return fmt.Errorf("address %q has no host", address)
	}
	for _, r := range host {
		if !plain(r) && r != ':' && r != '%' {
			return fmt.Errorf("address %q has %q in its host", address, r)
		}
	}
	return nil
}
