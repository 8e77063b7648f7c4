package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A hidden path does not exist on its host. Over the folder that holds it lies an overlay whose upper
// layer says 'no such file' at that place (a whiteout, which an ordinary user may make) and is
// otherwise empty. Of nested folders only the outermost gets an overlay: overlays must not pile up,
// the kernel stacks two at most and capsules want one.
//
// Everything is rebuilt at each change. A process that runs already keeps what it has open, and a
// capsule, which has mounts of its own, keeps seeing what it saw: hide before an app arrives.

func (w *warden) hide(paths []string) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	want := slices.Clone(w.hidden)
	for _, p := range paths {
		real, err := realPath(p)
		if err != nil {
			return nil, err
		}
		if slices.Contains(want, real) {
			continue
		}
		if covered(real) && !holdsAny(append(w.spec.Shares, w.spec.Bin), real) {
			return nil, fmt.Errorf("hiding %s: it lies in a folder of the host's own: remove it there", p)
		}
		if _, err := os.Lstat(real); err != nil {
			return nil, fmt.Errorf("hiding %s: %w", p, err)
		}
		want = append(want, real)
	}
	return w.setHidden(want)
}

func (w *warden) unhide(paths []string) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(paths) == 0 {
		return w.setHidden(nil)
	}
	want := slices.Clone(w.hidden)
	for _, p := range paths {
		real, err := realPath(p)
		if err != nil {
			return nil, err
		}
		at := slices.Index(want, real)
		if at < 0 {
			return nil, fmt.Errorf("%s is not hidden on host %s", p, w.spec.Name)
		}
		want = slices.Delete(want, at, at+1)
	}
	return w.setHidden(want)
}

// realPath resolves links on the way, but not the last name: a link itself can be hidden.
func realPath(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("hiding %s: say the whole path, from /", path)
	}
	path = filepath.Clean(path)
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil // below something that is hidden
	}
	if err != nil {
		return "", fmt.Errorf("hiding %s: %w", path, err)
	}
	if dir == "/" {
		return "", fmt.Errorf("hiding %s: top-level folders cannot be hidden", path)
	}
	return filepath.Join(dir, filepath.Base(path)), nil
}

// holdsAny tells whether one of the folders holds the path.
func holdsAny(folders []string, path string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(path, f+"/") })
}

// setHidden replaces all overlays. If that fails, the old ones come back.
func (w *warden) setHidden(want []string) ([]string, error) {
	old := w.hidden
	if err := w.uncover(); err != nil {
		return nil, err
	}
	err := w.cover(want)
	if err == nil {
		w.hidden = want
		return want, nil
	}
	return nil, errors.Join(err, w.uncover(), w.cover(old))
}

// coverRoots are the folders that need an overlay for these paths to be hidden.
func coverRoots(paths []string) []string {
	var roots []string
	for _, p := range paths {
		roots = append(roots, filepath.Dir(p))
	}
	slices.Sort(roots) // an outer folder comes before what is inside it
	var outer []string
	for _, r := range roots {
		inside := func(o string) bool { return r == o || strings.HasPrefix(r, o+"/") }
		if !slices.ContainsFunc(outer, inside) {
			outer = append(outer, r)
		}
	}
	return outer
}

func (w *warden) cover(paths []string) error {
	for _, root := range coverRoots(paths) {
		w.hideGen++
		layer := filepath.Join(wardenFolder, fmt.Sprintf("hide-%d", w.hideGen))
		if err := os.Mkdir(layer, 0o755); err != nil {
			return fmt.Errorf("hiding files: %w", err)
		}
		for _, p := range paths {
			inside, ok := strings.CutPrefix(p, root+"/")
			if !ok {
				continue
			}
			if err := whiteout(layer, root, inside); err != nil {
				return fmt.Errorf("hiding %s: %w", p, err)
			}
		}
		if err := copyMode(root, layer); err != nil {
			return fmt.Errorf("hiding files in %s: %w", root, err)
		}
		// Two lower layers and no upper: the folder is read-only, as it is to an ordinary user anyway.
		options := "lowerdir=" + layer + ":" + escapeOverlay(root) + ",userxattr"
		if err := unix.Mount("overlay", root, "overlay", unix.MS_NODEV|unix.MS_NOSUID, options); err != nil {
			return fmt.Errorf("hiding files in %s by an overlay: %w (a folder with mounts below it cannot be covered)", root, err)
		}
		w.covered = append(w.covered, root)
	}
	return nil
}

// whiteout writes 'no such file' for a path into a layer.
func whiteout(layer, root, inside string) error {
	for at := filepath.Dir(inside); at != "."; at = filepath.Dir(at) {
		if err := os.MkdirAll(filepath.Join(layer, at), 0o755); err != nil {
			if errors.Is(err, unix.ENOTDIR) {
				return nil // a folder above is hidden as a whole
			}
			return err
		}
		if err := copyMode(filepath.Join(root, at), filepath.Join(layer, at)); err != nil {
			return err
		}
	}
	at := filepath.Join(layer, inside)
	os.RemoveAll(at) // what is inside may have been hidden before the whole
	return unix.Mknod(at, unix.S_IFCHR, 0)
}

// copyMode lets the layer's folder, whose attributes the overlay shows, look like the covered one.
func copyMode(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	return os.Chmod(to, info.Mode().Perm()|0o500)
}

func escapeOverlay(path string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace(path)
}

// uncover takes all overlays away. Processes that use one keep it until they end.
func (w *warden) uncover() error {
	for len(w.covered) > 0 {
		root := w.covered[len(w.covered)-1]
		if err := unix.Unmount(root, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("taking the cover off %s: %w", root, err)
		}
		w.covered = w.covered[:len(w.covered)-1]
	}
	w.hidden = nil
	return nil
}
