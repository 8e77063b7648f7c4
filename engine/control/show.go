package control

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"hither/engine/handover"
)

// StartRequest starts an app in a capsule, on the desktop that hither is used
// on: an installed one, or a command.
type StartRequest struct {
	Installed string   `json:"installed,omitempty"` // ID of an Installed
	Command   []string `json:"command,omitempty"`
	Dir       string   `json:"dir,omitempty"` // default: the home folder
	Name      string   `json:"name,omitempty"`
	// Unsandboxed agrees that a browser starts without its own sandbox, without
	// which it cannot move.
	Unsandboxed bool `json:"unsandboxed,omitempty"`
}

// InstalledApp is an app of this host's menu: a desktop file.
type InstalledApp struct {
	ID         string   `json:"id"` // name of the desktop file, without .desktop
	Name       string   `json:"name"`
	Comment    string   `json:"comment,omitempty"`
	Keywords   []string `json:"keywords,omitempty"`
	Categories []string `json:"categories,omitempty"`
	Terminal   bool     `json:"terminal,omitempty"`
	// Sandboxed says that the app can move only when it is started with
	// StartRequest.Unsandboxed: a person has to choose.
	Sandboxed bool `json:"sandboxed,omitempty"`
}

type InstalledApps struct {
	Apps []InstalledApp `json:"apps"`
}

// OutsideApp is a program with a window on this desktop that runs outside of
// hither, and so cannot move.
type OutsideApp struct {
	Pid       int    `json:"pid"`
	Name      string `json:"name"`
	Title     string `json:"title,omitempty"`
	Installed string `json:"installed,omitempty"` // ID of the Installed that it is, if it is one
	Restart   bool   `json:"restart"`             // it can be closed, and started in hither
	Why       string `json:"why,omitempty"`       // why not
	Memory    uint64 `json:"memory,omitempty"`    // bytes resident
}

type OutsideApps struct {
	Apps []OutsideApp `json:"apps"`
}

// PastMove is a move that has ended, begun by whomever, as this host saw it.
type PastMove struct {
	When   time.Time       `json:"when"`
	Side   string          `json:"side"` // source, destination
	Result handover.Result `json:"result"`
}

// History lists the last moves, newest first.
type History struct {
	Moves []PastMove `json:"moves"`
}

// Settings are what a person may choose for this host.
type Settings struct {
	Name         string            `json:"name"`         // what other hosts are told; "" in a change leaves it
	Discoverable bool              `json:"discoverable"` // tell the local network that this host is here
	Permissions  map[string]string `json:"permissions"`  // of hosts that are paired from now on: PermitSend ... -> Allow, Deny, Ask
}

// Apps with a closer look: titles, memory, and what keeps each from moving.
func (c *Client) LookAtApps(ctx context.Context) (*Apps, error) {
	return get[Apps](ctx, c, "/v1/apps?look=1")
}

func (c *Client) Start(ctx context.Context, r StartRequest) (*App, error) {
	out := new(App)
	return out, c.do(ctx, http.MethodPost, "/v1/apps", r, out)
}

// Icon is the app's icon as PNG, about size pixels wide; no picture is an Error.
func (c *Client) Icon(ctx context.Context, name string, size int) ([]byte, error) {
	return c.picture(ctx, app(name, "icon")+fmt.Sprintf("?size=%d", size))
}

// Thumbnail is what the app shows now, its window or its terminal, as PNG that
// fits into width x height pixels.
func (c *Client) Thumbnail(ctx context.Context, name string, width, height int) ([]byte, error) {
	return c.picture(ctx, app(name, "thumbnail")+fmt.Sprintf("?width=%d&height=%d", width, height))
}

// PeerIcon is the icon of an app on another host.
func (c *Client) PeerIcon(ctx context.Context, peer, name string, size int) ([]byte, error) {
	return c.picture(ctx, "/v1/peers/"+url.PathEscape(peer)+"/apps/"+url.PathEscape(name)+fmt.Sprintf("/icon?size=%d", size))
}

// Raise brings the app's window to the front of the desktop that shows it.
func (c *Client) Raise(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, app(name, "show"), nil, nil)
}

func (c *Client) Installed(ctx context.Context) (*InstalledApps, error) {
	return get[InstalledApps](ctx, c, "/v1/installed")
}

func (c *Client) InstalledIcon(ctx context.Context, id string, size int) ([]byte, error) {
	return c.picture(ctx, "/v1/installed/"+url.PathEscape(id)+fmt.Sprintf("/icon?size=%d", size))
}

func (c *Client) Outside(ctx context.Context) (*OutsideApps, error) {
	return get[OutsideApps](ctx, c, "/v1/outside")
}

// RestartOutside asks a program to close, as its window's cross does, and starts
// it in hither once it has ended. If it does not end (it asks whether to save),
// that is an Error, and nothing has been lost.
func (c *Client) RestartOutside(ctx context.Context, pid int) (*App, error) {
	out := new(App)
	return out, c.do(ctx, http.MethodPost, fmt.Sprintf("/v1/outside/%d/restart", pid), nil, out)
}

func (c *Client) History(ctx context.Context) (*History, error) {
	return get[History](ctx, c, "/v1/history")
}

func (c *Client) Settings(ctx context.Context) (*Settings, error) {
	return get[Settings](ctx, c, "/v1/settings")
}

func (c *Client) ChangeSettings(ctx context.Context, s Settings) (*Settings, error) {
	out := new(Settings)
	return out, c.do(ctx, http.MethodPut, "/v1/settings", s, out)
}

// maxPicture bounds a picture, in bytes.
const maxPicture = 8 << 20

func (c *Client) picture(ctx context.Context, path string) ([]byte, error) {
	resp, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPicture))
	if err != nil {
		return nil, fmt.Errorf("reading the daemon's picture: %w", err)
	}
	return b, nil
}
