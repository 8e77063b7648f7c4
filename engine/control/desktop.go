package control

import (
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"hither/engine/display"
)

// Each request tells on which desktop it was made, if on one of this host: one
// header of this name for each variable, NAME=VALUE, escaped as in a query.
const desktopHeader = "Hither-Desktop"

// maxDesktop bounds each of them.
const maxDesktop = 4096

// tellDesktop puts the desktop of this process into a request.
func tellDesktop(h http.Header) {
	if Display(os.Getenv("DISPLAY")) == "" {
		return
	}
	for _, name := range display.DesktopEnv {
		if v := os.Getenv(name); v != "" && len(v) < maxDesktop {
			h.Add(desktopHeader, url.QueryEscape(name+"="+v))
		}
	}
}

// Desktop is where a request was made, as environment variables; nil if on no
// desktop of this host.
func Desktop(h http.Header) []string {
	var env []string
	for _, field := range h.Values(desktopHeader) {
		if kv, err := url.QueryUnescape(field); err == nil {
			env = append(env, kv)
		}
	}
	return DesktopOf(env)
}

// DesktopOf is what an environment says of the desktop; nil if there is none of
// this host.
func DesktopOf(environment []string) []string {
	var env []string
	shown := false
	for _, kv := range environment {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || len(value) >= maxDesktop || !slices.Contains(display.DesktopEnv, name) {
			continue
		}
		shown = shown || name == "DISPLAY" && Display(value) != ""
		env = append(env, kv)
	}
	if !shown {
		return nil
	}
	return env
}

// Display is the number of an X display of this host, "" if it is on another one,
// as those are that ssh passes on: they end with the visit.
func Display(display string) string {
	number, ok := strings.CutPrefix(strings.TrimPrefix(display, "unix"), ":")
	number, _, _ = strings.Cut(number, ".")
	if !ok || number == "" || strings.Trim(number, "0123456789") != "" {
		return ""
	}
	return number
}
