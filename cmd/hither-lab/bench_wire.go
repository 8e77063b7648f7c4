package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"hither/transport"
)

// The bare transport, to hold a move against: two processes on two hosts, each
// with a key of its own, that send each other nothing but bytes.

// bareEndpoint opens an endpoint and exchanges cards with the other side by way
// of our output and input.
func bareEndpoint(in *bufio.Scanner) (*transport.Endpoint, transport.Peer, error) {
	var none transport.Peer
	debug.SetGCPercent(400) // as the daemon
	dir, err := os.MkdirTemp("", "hither-bench-")
	if err != nil {
		return nil, none, err
	}
	// The folder stays: the book is read anew for each connection. It lies in the
	// host's own /tmp and ends with the lab.
	identity, err := transport.NewIdentity()
	if err != nil {
		return nil, none, err
	}
	trust, err := transport.OpenTrust(dir)
	if err != nil {
		return nil, none, err
	}
	e, err := transport.Listen(":0", identity, trust, transport.Options{Name: "bench"})
	if err != nil {
		return nil, none, err
	}
	fmt.Println(e.Card().String())
	if !in.Scan() {
		return nil, none, fmt.Errorf("no card of the other side came: %w", io.ErrUnexpectedEOF)
	}
	card, err := transport.ParseCard(strings.TrimSpace(in.Text()))
	if err != nil {
		return nil, none, err
	}
	if err := trust.Put(card.Peer()); err != nil {
		return nil, none, err
	}
	fmt.Println("paired")
	return e, card.Peer(), nil
}

// workTake takes whatever comes and drops it.
func workTake([]string) error {
	in := bufio.NewScanner(os.Stdin)
	e, _, err := bareEndpoint(in)
	if err != nil {
		return err
	}
	go func() {
		in.Scan() // until nobody measures any more
		os.Exit(0)
	}()
	conn, err := e.Accept(context.Background())
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for {
		s, err := conn.AcceptStream(context.Background())
		if err != nil {
			return nil // the other side has measured enough
		}
		for err == nil {
			_, err = s.Read(buf)
		}
		if err != io.EOF {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
}

// workGive sends so many bytes whenever a line comes, and prints the milliseconds
// until the other side had them all: give BYTES.
func workGive(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("give BYTES")
	}
	size, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	memory, err := randomMemory(size)
	if err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	e, peer, err := bareEndpoint(in)
	if err != nil {
		return err
	}
	defer e.Close()
	ctx := context.Background()
	var conn *transport.Conn
	for in.Scan() { // the other side trusts us by now
		if conn == nil {
			if conn, err = e.Dial(ctx, peer); err != nil {
				return err
			}
		}
		begun := time.Now()
		s, err := conn.OpenStream(ctx)
		if err != nil {
			return err
		}
		for rest := memory; len(rest) > 0 && err == nil; {
			n := min(len(rest), 1<<20)
			_, err = s.Write(rest[:n])
			rest = rest[n:]
		}
		if err == nil {
			err = s.Close()
		}
		if err == nil {
			_, err = io.Copy(io.Discard, s)
		}
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(float64(time.Since(begun).Microseconds()) / 1000); err != nil {
			return err
		}
	}
	return in.Err()
}
