package desk

import (
	"context"
	"sync"
	"time"

	"hither/gui/model"
)

// icons are those of apps in the menu: each is asked for once, in the background.
type icons struct {
	model   *model.Model
	changed func()

	mu    sync.Mutex
	known map[string][]byte // nil: asked for
}

const (
	iconPixels = 24
	iconTime   = 10 * time.Second
	maxIcons   = 200
)

func (i *icons) get(app, peer string) []byte {
	key := peer + " " + app
	i.mu.Lock()
	defer i.mu.Unlock()
	png, asked := i.known[key]
	if asked {
		return png
	}
	if len(i.known) >= maxIcons {
		i.known = map[string][]byte{}
	}
	i.known[key] = nil
	i.model.Do("", func(ctx context.Context, d model.Daemon) error {
		ctx, stop := context.WithTimeout(ctx, iconTime)
		defer stop()
		var png []byte
		var err error
		if peer == "" {
			png, err = d.Icon(ctx, app, iconPixels)
		} else {
			png, err = d.PeerIcon(ctx, peer, app, iconPixels)
		}
		if err == nil && len(png) > 0 {
			i.mu.Lock()
			i.known[key] = png
			i.mu.Unlock()
			i.changed()
		}
		return err
	}, nil)
	return nil
}
