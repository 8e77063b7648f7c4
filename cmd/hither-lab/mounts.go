package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A host sees this machine's system folders, and has folders of its own where a user or a program
// keeps what belongs to one machine. All of them are tmpfs in the host's mount namespace: nothing of
// a host is ever on this machine's disk, and all of it is gone with the host.
var ownFolders = []struct {
	path, mode string
}{
	{"/home", "755"},
	{"/tmp", "1777"},
	{"/var/tmp", "1777"},
	{"/dev/shm", "1777"},
	{"/run", "755"},
}

// wardenFolder holds what the warden mounts from; inside the host's own /run.
const wardenFolder = "/run/hither-lab"

// buildHost gives the warden's mount namespace the shape of a host.
func buildHost(h hostSpec, uid, gid int) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("parting the host's mounts from the machine's: %w", err)
	}
	// What is shared may lie where a folder of the host's own will soon cover it: hold it open.
	shares, err := holdShares(append([]string{h.Bin}, h.Shares...))
	if err != nil {
		return err
	}
	defer shares.close()

	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting the host's /proc: %w (in a container whose /proc is masked this is refused: run the lab outside of it)", err)
	}
	for _, f := range ownFolders {
		options := "mode=" + f.mode
		if h.Disk != "" && f.path != "/run" {
			options += ",size=" + h.Disk
		}
		if err := unix.Mount("tmpfs", f.path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
			return fmt.Errorf("mounting the host's own %s: %w", f.path, err)
		}
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("mounting the host's own /dev/pts: %w", err)
	}
	if info, err := os.Stat("/dev/mqueue"); err == nil && info.IsDir() {
		if err := unix.Mount("mqueue", "/dev/mqueue", "mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mounting the host's own /dev/mqueue: %w", err)
		}
	}
	for _, dir := range []string{"/run/lock", "/run/user", wardenFolder} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("making the host's folders: %w", err)
		}
	}
	if err := os.Mkdir(runtimeDir(uid), 0o700); err != nil {
		return fmt.Errorf("making the host's folders: %w", err)
	}
	for _, dir := range []string{labHome, labHome + "/.config", labHome + "/.cache", labHome + "/.local/share", labHome + "/.local/state"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making the host's home: %w", err)
		}
	}
	if err := shares.mount(); err != nil {
		return err
	}
	return writeNames(h, uid, gid)
}

// heldShares are folders of the machine, by path, that the hosts shall see too.
type heldShares struct {
	paths []string
	files []*os.File
}

func holdShares(paths []string) (*heldShares, error) {
	held := &heldShares{}
	for _, path := range paths {
		if !covered(path) {
			continue // the host sees it anyway
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			held.close()
			return nil, fmt.Errorf("sharing the folder %s with the hosts: %w", path, err)
		}
		held.paths = append(held.paths, path)
		held.files = append(held.files, os.NewFile(uintptr(fd), path))
	}
	return held, nil
}

// covered tells whether one of the host's own folders hides a path of the machine's.
func covered(path string) bool {
	for _, f := range ownFolders {
		if path == f.path || strings.HasPrefix(path, f.path+"/") {
			return true
		}
	}
	return false
}

func (s *heldShares) mount() error {
	for i, path := range s.paths {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("making a place for the shared folder %s: %w", path, err)
		}
		from := fmt.Sprintf("/proc/self/fd/%d", s.files[i].Fd())
		if err := unix.Mount(from, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("sharing the folder %s with the host: %w", path, err)
		}
	}
	return nil
}

func (s *heldShares) close() { closeAll(s.files) }

// writeNames makes the host's /etc say who is who: the lab's user, the hosts by name.
func writeNames(h hostSpec, uid, gid int) error {
	hosts := "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
	for _, a := range h.All {
		hosts += fmt.Sprintf("%s %s\n%s %s\n", a.Addr, a.Name, a.Addr6, a.Name)
	}
	files := map[string]string{
		"/etc/hosts":    hosts,
		"/etc/hostname": h.Name + "\n",
		"/etc/passwd":   withUser(uid, gid),
	}
	for path, content := range files {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue // nothing there to cover, and the folder is not ours to write
		}
		from := filepath.Join(wardenFolder, filepath.Base(path))
		if err := os.WriteFile(from, []byte(content), 0o644); err != nil {
			return fmt.Errorf("writing the host's %s: %w", path, err)
		}
		if err := unix.Mount(from, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("putting the host's %s in place: %w", path, err)
		}
	}
	return nil
}

// withUser is the machine's list of users with the lab's in place of whoever has this uid.
func withUser(uid, gid int) string {
	text := fmt.Sprintf("%s:x:%d:%d:user of the lab:%s:%s\n", labUser, uid, gid, labHome, shell())
	old, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return text
	}
	for _, line := range strings.SplitAfter(string(old), "\n") {
		fields := strings.Split(line, ":")
		if len(fields) < 7 || fields[0] == labUser || fields[2] == fmt.Sprint(uid) {
			continue
		}
		text += line
	}
	return text
}

// clearBoot empties what a real machine loses with its power: /run/user, /tmp, /dev/shm.
func clearBoot(uid int, shares []string) error {
	for _, dir := range []string{runtimeDir(uid), "/tmp", "/dev/shm"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("emptying %s: %w", dir, err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if holdsShare(path, shares) {
				continue
			}
			if err := os.RemoveAll(path); err != nil && !errors.Is(err, syscall.EBUSY) {
				return fmt.Errorf("emptying %s: %w", dir, err)
			}
		}
	}
	return nil
}

// holdsShare guards the machine's folders that are mounted there from being emptied.
func holdsShare(path string, shares []string) bool {
	for _, s := range shares {
		if s == path || strings.HasPrefix(s, path+"/") {
			return true
		}
	}
	return false
}
