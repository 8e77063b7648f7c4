package transport

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
)

// alpn names the protocol and its version; a host that speaks another one
// fails in the handshake.
const alpn = "hither/2"

// base is what both sides share. No chain is verified and no name is looked
// at: a host is its key, and VerifyConnection, which TLS calls in every
// handshake after the other side has proven that it holds the key, decides.
// Tickets are off, so that there is no handshake without that.
func (i *Identity) base() *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{i.cert},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		ServerName:             "hither",
		InsecureSkipVerify:     true,
		SessionTicketsDisabled: true,
	}
}

// dialTLS accepts the peer's key and no other; proven is called when it has come.
func (i *Identity) dialTLS(p Peer, proven func()) *tls.Config {
	c := i.base()
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		key, err := keyOf(cs.PeerCertificates)
		if err != nil {
			return &WrongKeyError{Peer: p.Name, Want: p.ID}
		}
		if !key.Equal(p.Key) {
			return &WrongKeyError{Peer: p.Name, Want: p.ID, Got: IDOf(key)}
		}
		proven()
		return nil
	}
	return c
}

// listenTLS accepts the keys in the book; any key for a pairing, and for nothing
// else. refused learns of all others.
func (i *Identity) listenTLS(trust *Trust, accepted func(context.Context), refused func(net.Addr, error)) *tls.Config {
	c := i.base()
	c.ClientAuth = tls.RequireAnyClientCert
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		from, ctx := hello.Conn.RemoteAddr(), hello.Context()
		one := c.Clone()
		one.GetConfigForClient = nil
		if slices.Contains(hello.SupportedProtos, alpnPair) {
			return i.pairListenTLS(one, func() { accepted(ctx) }), nil
		}
		one.VerifyConnection = func(cs tls.ConnectionState) error {
			if _, err := trusted(trust, cs.PeerCertificates); err != nil {
				refused(from, err)
				return err
			}
			accepted(ctx)
			return nil
		}
		return one, nil
	}
	return c
}

// trusted is the peer in the book whose key the certificate has.
func trusted(trust *Trust, certs []*x509.Certificate) (Peer, error) {
	key, err := keyOf(certs)
	if err != nil {
		return Peer{}, err
	}
	return trust.Get(IDOf(key))
}

func keyOf(certs []*x509.Certificate) (ed25519.PublicKey, error) {
	if len(certs) == 0 {
		return nil, errors.New("the other side showed no certificate")
	}
	key, ok := certs[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("the other side's key is not an ed25519 key")
	}
	return key, nil
}
