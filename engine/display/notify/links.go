package notify

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

// The portal's interfaces for links,
// https://flatpak.github.io/xdg-desktop-portal/docs/doc-org.freedesktop.portal.OpenURI.html,
// and a plain one that dbus-send can call.
const (
	portalName   = "org.freedesktop.portal.Desktop"
	portalPath   = dbus.ObjectPath("/org/freedesktop/portal/desktop")
	openURI      = "org.freedesktop.portal.OpenURI"
	requestIface = "org.freedesktop.portal.Request"
	linksIface   = "hither.Links"
	properties   = "org.freedesktop.DBus.Properties"
)

// maxLink is how long a link may be, in bytes.
const maxLink = 64 << 10

// links is what apps call.
type links struct {
	n *Notify
	c *dbus.Conn
}

// Open opens a link on the desktop.
func (s *links) Open(link string) *dbus.Error {
	if err := checkLink(link); err != nil {
		return dbus.NewError("org.freedesktop.portal.Error.NotAllowed", []any{err.Error()})
	}
	if err := s.n.o.Open(link); err != nil {
		return dbus.NewError("org.freedesktop.portal.Error.Failed", []any{fmt.Sprintf("opening %s on the desktop: %v", link, err)})
	}
	return nil
}

// OpenURI does as a portal does: the answer is a signal of a request's.
func (s *links) OpenURI(sender dbus.Sender, parent, link string, options map[string]dbus.Variant) (dbus.ObjectPath, *dbus.Error) {
	if err := s.Open(link); err != nil {
		return "/", err
	}
	token, _ := options["handle_token"].Value().(string)
	if token == "" {
		token = "hither"
	}
	name := strings.ReplaceAll(strings.TrimPrefix(string(sender), ":"), ".", "_")
	request := dbus.ObjectPath("/org/freedesktop/portal/desktop/request/" + name + "/" + token)
	if !request.IsValid() {
		return "/", dbus.NewError("org.freedesktop.portal.Error.InvalidArgument", []any{"handle_token"})
	}
	// The one who asked hears it after the answer if it subscribed late, too.
	go s.c.Emit(request, requestIface+".Response", uint32(0), map[string]dbus.Variant{}) //nolint:errcheck // it may have gone
	return request, nil
}

// checkLink lets through what a browser or a mail program opens, and nothing that
// would run something on the desktop.
func checkLink(link string) error {
	if len(link) > maxLink {
		return fmt.Errorf("a link of %d bytes", len(link))
	}
	if strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return errors.New("the link has blanks or control characters in it")
	}
	u, err := url.Parse(link)
	if err != nil {
		return err
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
		if u.Host == "" {
			return errors.New("the link names no host")
		}
	case "mailto":
	default:
		return fmt.Errorf("only links of http, https and mailto are opened on the desktop, not %q", u.Scheme)
	}
	return nil
}

// openLink has the desktop open a link. The program outlives the caller.
func openLink(link string) error {
	cmd := exec.Command("xdg-open", link)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting xdg-open (of the package xdg-utils): %w", err)
	}
	go cmd.Wait() //nolint:errcheck // a browser may run for hours
	return nil
}

// portalProperties answers to those who look before they call.
type portalProperties struct{}

func (portalProperties) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	if iface == openURI && name == "version" {
		return dbus.MakeVariant(uint32(1)), nil
	}
	return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{iface + "." + name})
}

func (portalProperties) GetAll(iface string) (map[string]dbus.Variant, *dbus.Error) {
	if iface == openURI {
		return map[string]dbus.Variant{"version": dbus.MakeVariant(uint32(1))}, nil
	}
	return map[string]dbus.Variant{}, nil
}

// offer exports all on a bus.
func offer(c *dbus.Conn, n *notifications, l *links) error {
	return errors.Join(
		c.Export(n, notificationsPath, notificationsName),
		c.ExportMethodTable(map[string]any{"Open": l.Open}, portalPath, linksIface),
		c.ExportMethodTable(map[string]any{"OpenURI": l.OpenURI}, portalPath, openURI),
		c.Export(portalProperties{}, portalPath, properties),
		c.Export(introspect.Introspectable(notificationsXML), notificationsPath, "org.freedesktop.DBus.Introspectable"),
		c.Export(introspect.Introspectable(portalXML), portalPath, "org.freedesktop.DBus.Introspectable"),
	)
}

// environmentBus is the desktop's bus as a session has it.
func environmentBus() string {
	if a := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); a != "" && a != "disabled:" && a != "autolaunch:" {
		return a
	}
	return ""
}

const notificationsXML = `<node><interface name="org.freedesktop.Notifications">
<method name="Notify"><arg type="s" direction="in"/><arg type="u" direction="in"/><arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="as" direction="in"/><arg type="a{sv}" direction="in"/><arg type="i" direction="in"/><arg type="u" direction="out"/></method>
<method name="CloseNotification"><arg type="u" direction="in"/></method>
<method name="GetCapabilities"><arg type="as" direction="out"/></method>
<method name="GetServerInformation"><arg type="s" direction="out"/><arg type="s" direction="out"/><arg type="s" direction="out"/><arg type="s" direction="out"/></method>
<signal name="NotificationClosed"><arg type="u"/><arg type="u"/></signal>
<signal name="ActionInvoked"><arg type="u"/><arg type="s"/></signal>
<signal name="ActivationToken"><arg type="u"/><arg type="s"/></signal>
</interface></node>`

const portalXML = `<node><interface name="org.freedesktop.portal.OpenURI">
<method name="OpenURI"><arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="a{sv}" direction="in"/><arg type="o" direction="out"/></method>
<property name="version" type="u" access="read"/>
</interface><interface name="hither.Links"><method name="Open"><arg type="s" direction="in"/></method></interface></node>`
