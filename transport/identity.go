package transport

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	identityFile  = "identity.pem"
	identityBlock = "PRIVATE KEY"
	maxIdentity   = 4096 // bytes of identity.pem; a key is about 120
	shortID       = 8
)

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// ID names a host for ever: lower-case base32, without padding, of the SHA-256
// of its public key.
type ID string

// IDOf is the ID of the host that has this public key.
func IDOf(key ed25519.PublicKey) ID {
	sum := sha256.Sum256(key)
	return ID(strings.ToLower(idEncoding.EncodeToString(sum[:])))
}

// Short is the form for people: enough to tell hosts apart, not to trust one.
func (id ID) Short() string {
	if len(id) <= shortID {
		return string(id)
	}
	return string(id[:shortID])
}

// Identity is this host's key.
type Identity struct {
	key  ed25519.PrivateKey
	cert tls.Certificate
}

// NewIdentity makes an identity that is kept nowhere, for tests and tools.
func NewIdentity() (*Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return identityOf(key)
}

// LoadIdentity reads the host's identity from dir, or makes it there the first
// time. Two processes that do so at once get the same one.
func LoadIdentity(dir string) (*Identity, error) {
	path := filepath.Join(dir, identityFile)
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createKey(dir, path); err == nil {
			key, err = readKey(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("loading this host's identity: %w", err)
	}
	return identityOf(key)
}

// ID is this host's ID.
func (i *Identity) ID() ID { return IDOf(i.Public()) }

// Public is this host's public key.
func (i *Identity) Public() ed25519.PublicKey { return i.key.Public().(ed25519.PublicKey) }

// secret derives a key for another use, so that it survives a restart without
// a file of its own.
func (i *Identity) secret(use string) [32]byte {
	return sha256.Sum256(append([]byte("hither "+use+"\x00"), i.key.Seed()...))
}

// identityOf wraps the key in a self-signed certificate. Nothing in it but the
// key is ever looked at, so the dates are wide: a wrong clock must not matter.
func identityOf(key ed25519.PrivateKey) (*Identity, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "hither"},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), crypto.Signer(key))
	if err != nil {
		return nil, fmt.Errorf("making this host's certificate: %w", err)
	}
	return &Identity{key: key, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}, nil
}

func readKey(path string) (ed25519.PrivateKey, error) {
	text, err := readPrivate(path, maxIdentity, 0o077)
	if err != nil {
		return nil, err
	}
	damaged := func(why string) error {
		return fmt.Errorf("%s is damaged (%s): restore it from a copy, or remove it and pair this host anew with all others", path, why)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != identityBlock || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, damaged("not one PEM block of a private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, damaged(err.Error())
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, damaged("the key is not an ed25519 key")
	}
	return key, nil
}

// createKey writes a new key under path unless there is one: link, unlike
// rename, leaves alone what another process has just put there.
func createKey(dir, path string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making its directory: %w", err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding a key: %w", err)
	}
	temp, err := writeTemp(dir, pem.EncodeToMemory(&pem.Block{Type: identityBlock, Bytes: der}))
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("creating %s: %w", path, err)
	}
	return syncDir(dir)
}
