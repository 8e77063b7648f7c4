package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/files"
	"hither/engine/paths"
)

// layerDir is where the files of an app lie that came from another host.
func layerDir(id string) (string, error) {
	dir, err := paths.CapsuleData(id)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "layer"), nil
}

// files lists what an app took along and wrote, copies it out, or returns it to
// where it came from.
func (d *Daemon) files(ctx context.Context, what string, act *control.FilesRequest) (any, error) {
	f, err := d.find(what)
	if err != nil {
		// An app that has ended here may have left files.
		if f = d.left(what); f == nil {
			return nil, err
		}
	}
	out := control.Files{App: f.app.Name, Files: []control.File{}}
	if f.app.State == "gone" {
		if act != nil {
			return nil, &control.Error{Code: control.CodeMoved, Text: fmt.Sprintf("%s is on %s, and so are its files", f.app.Name, f.app.Host),
				Hint: fmt.Sprintf("`hither files %s --%s` there", f.app.Name, act.Action)}
		}
		out.Host = f.app.Host
		out.Notes = append(out.Notes, fmt.Sprintf("%s is on %s, and so are its files: run `hither files %s` there", f.app.Name, f.app.Host, f.app.Name))
		return out, nil
	}
	dir, err := layerDir(f.app.ID)
	if err != nil {
		return nil, err
	}
	layer, err := files.OpenLayer(dir)
	if errors.Is(err, os.ErrNotExist) {
		os.Remove(filepath.Dir(dir)) //nolint:errcheck // it was made to look into
		out.Notes = append(out.Notes, "it was started on this host and works on this host's own files")
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out.Dir = layer.Dir()
	if act != nil {
		switch act.Action {
		case "fetch":
			if !filepath.IsAbs(act.To) {
				return nil, usage("", "the folder to fetch into must be an absolute path")
			}
			names, err := layer.Fetch(act.To, len(act.Paths) == 0)
			for _, n := range names {
				x := control.File{Path: n, State: "fetched", Here: n}
				if info, err := os.Stat(n); err == nil {
					x.Size = info.Size()
				}
				out.Files = append(out.Files, x)
			}
			return out, err
		case "return":
			return d.giveBack(ctx, f, layer)
		default:
			return nil, usage("", "nothing is known of doing %q with files", act.Action)
		}
	}
	list, err := layer.Status(d.engine.env.Hasher)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		out.Files = append(out.Files, control.File{Path: s.Path, State: s.State, Size: s.Size, Here: s.Where})
	}
	return out, nil
}

// left finds an app that has ended here and has left files.
func (d *Daemon) left(what string) *found {
	data, err := paths.Data()
	if err != nil {
		return nil
	}
	layers, _ := files.List(data) // damaged ones are no answer
	for _, l := range layers {
		if l.Ledger.Capsule == what || l.Ledger.Name == what {
			if _, err := capsule.Open(l.Ledger.Capsule); err != nil {
				return &found{app: control.App{ID: l.Ledger.Capsule, Name: l.Ledger.Name, State: "ended"}}
			}
		}
	}
	return nil
}
