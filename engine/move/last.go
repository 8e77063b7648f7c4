package move

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"hither/engine/capsule"
)

// What people type at the windows while the app is on its way goes after it once it
// runs: its last words come when the windows go, so that no key falls in between.

// Leave tells a capsule's keeper that the app lives on another host, and returns
// what the app is to be given there.
func Leave(ctx context.Context, c *capsule.Capsule, host string) (last []byte, err error) {
	typed, err := c.Moved(ctx, host)
	if err != nil || len(typed) == 0 {
		return nil, err
	}
	return json.Marshal(typed)
}

// TakeLast gives an app that has come what Leave has returned on the host that it
// left, or (nil) tells it that it need not wait for that.
func TakeLast(c *capsule.Capsule, last []byte) error {
	var typed capsule.Typed
	if len(last) > 0 {
		if err := json.Unmarshal(last, &typed); err != nil {
			return fmt.Errorf("taking what was typed at the windows: %w", err)
		}
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	return c.Type(ctx, typed)
}

// TakeLast see handover.Destination.
func (d *Destination) TakeLast(last []byte) error { return TakeLast(d.cap, last) }
