package daemon

import (
	"net/http"

	"hither/engine/control"
)

// showRoutes are what a window shows beside the list of apps.
func (d *Daemon) showRoutes(mux *http.ServeMux, handle func(pattern, doing string, f func(*http.Request) (any, error))) {
	mux.HandleFunc("GET /v1/apps/{app}/thumbnail", d.serveThumbnail)
	mux.HandleFunc("GET /v1/apps/{app}/icon", d.serveIcon)
	mux.HandleFunc("GET /v1/installed/{id}/icon", d.serveInstalledIcon)
	mux.HandleFunc("GET /v1/peers/{peer}/apps/{app}/icon", d.servePeerIcon)
	handle("GET /v1/installed", "listing what is installed", func(*http.Request) (any, error) { return d.installed(), nil })
	handle("GET /v1/outside", "looking at the desktop", d.listOutside)
	handle("POST /v1/outside/{pid}/restart", "restarting it in hither", d.restartOutside)
	handle("GET /v1/history", "listing past moves", func(*http.Request) (any, error) { return d.history.list(), nil })
	handle("GET /v1/settings", "reading the settings", func(*http.Request) (any, error) { return d.readSettings(), nil })
	handle("PUT /v1/settings", "changing the settings", func(r *http.Request) (any, error) {
		var in control.Settings
		if err := read(r, &in); err != nil {
			return nil, err
		}
		return d.changeSettings(in)
	})
	handle("POST /v1/apps", "starting an app", func(r *http.Request) (any, error) {
		var in control.StartRequest
		if err := read(r, &in); err != nil {
			return nil, err
		}
		return d.start(r.Context(), in, d.desktopOf(r))
	})
}
