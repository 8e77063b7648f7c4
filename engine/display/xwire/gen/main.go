// Command gen writes the Go code of the X protocols from Debian's description
// of them (package xcb-proto, /usr/share/xcb/*.xml):
//
//	go run ./engine/display/xwire/gen -out engine/display/xwire
//
// In a nutshell: parse.go reads each file into types, requests, events and
// errors; config.go says which of them are wanted; emit*.go write one file for
// each protocol, generated_NAME.go, and generated_all_test.go, which lists all
// decoders for the fuzz tests. The same XML always gives the same bytes; a test
// compares them with the committed files.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
)

// xmlFolder is where Debian's xcb-proto puts the descriptions.
const xmlFolder = "/usr/share/xcb"

func main() {
	in := flag.String("xml", xmlFolder, "folder of xcb-proto's XML files")
	out := flag.String("out", ".", "folder of package xwire")
	flag.Parse()
	if err := run(*in, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(in, out string) error {
	files, err := generate(in)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(out, name), files[name], 0o644); err != nil {
			return fmt.Errorf("writing the generated code: %w", err)
		}
	}
	return nil
}
