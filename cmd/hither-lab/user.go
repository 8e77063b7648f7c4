package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// fallbackUID is who the hosts of root's lab run as on a machine without an ordinary user. It needs
// no entry in /etc/passwd.
const fallbackUID = 1000

// becomeOrdinary returns at once for an ordinary user. For root it starts this same command again as
// an ordinary user, so that a lab is made in one way only, and root's labs run what users run.
// For `up`, named by lab, it also copies binaries that the user could not read.
func becomeOrdinary(user, lab string) error {
	if os.Geteuid() != 0 {
		if user != "" && user != strconv.Itoa(os.Geteuid()) {
			return errors.New("--user is for root: you can only run a lab as yourself")
		}
		return nil
	}
	uid, gid, err := chooseUser(user)
	if err != nil {
		return err
	}
	if lab != "" && os.Getenv(binEnv) == "" {
		if dir := unreachableBinaries(); dir != "" {
			copied, err := copyBinaries(dir, placeOf(uid, lab), uid, gid)
			if err != nil {
				return err
			}
			os.Setenv(binEnv, copied)
		}
	}
	// Gids first: without uid 0 they cannot be changed.
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return fmt.Errorf("becoming user %d: setting groups: %w", uid, err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("becoming user %d: setting the group: %w", uid, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("becoming user %d: %w", uid, err)
	}
	os.Setenv(fromRootEnv, "1")
	// The new program image also gives /proc/self back to the new user.
	if err := syscall.Exec("/proc/self/exe", os.Args, os.Environ()); err != nil {
		return fmt.Errorf("starting again as user %d: %w", uid, err)
	}
	return nil
}

// fromRootEnv tells the second start that root was here, so that `up` can say whom it chose.
const fromRootEnv = "HITHER_LAB_FROM_ROOT"

// chooseUser is who root's hosts run as: whom --user names, who called sudo, the first ordinary
// user of this machine, or uid 1000.
func chooseUser(user string) (uid, gid int, err error) {
	users := readPasswd()
	if user != "" {
		for _, u := range users {
			if u.name == user || strconv.Itoa(u.uid) == user {
				return u.checked()
			}
		}
		n, err := strconv.Atoi(user)
		if err != nil {
			return 0, 0, fmt.Errorf("--user %s: no such user", user)
		}
		return passwdEntry{uid: n, gid: n}.checked()
	}
	if n, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil && n > 0 {
		gid, err := strconv.Atoi(os.Getenv("SUDO_GID"))
		if err != nil || gid <= 0 {
			gid = n
		}
		return n, gid, nil
	}
	for _, u := range users {
		if u.uid >= 1000 && u.uid < 60000 && u.gid > 0 {
			return u.uid, u.gid, nil
		}
	}
	return fallbackUID, fallbackUID, nil
}

type passwdEntry struct {
	name     string
	uid, gid int
}

func (u passwdEntry) checked() (int, int, error) {
	if u.uid <= 0 || u.gid <= 0 {
		return 0, 0, errors.New("--user: the hosts of a lab run as an ordinary user, not as root")
	}
	return u.uid, u.gid, nil
}

func readPasswd() []passwdEntry {
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return nil // a machine without the file has no ordinary users either
	}
	defer f.Close()
	var users []passwdEntry
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Split(s.Text(), ":")
		if len(fields) < 7 {
			continue
		}
		uid, err1 := strconv.Atoi(fields[2])
		gid, err2 := strconv.Atoi(fields[3])
		if err1 == nil && err2 == nil {
			users = append(users, passwdEntry{fields[0], uid, gid})
		}
	}
	return users
}

// userName is how to call a user in a message.
func userName(uid int) string {
	for _, u := range readPasswd() {
		if u.uid == uid {
			return fmt.Sprintf("%s (uid %d)", u.name, uid)
		}
	}
	return fmt.Sprintf("uid %d", uid)
}
