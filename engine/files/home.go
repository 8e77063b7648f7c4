package files

import "context"

func (in *Incoming) needsBytes(ctx context.Context, e, base *Entry) bool { return true }
