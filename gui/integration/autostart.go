package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hither/engine/desktop"
)

// A desktop starts what lies in the folder autostart of the user's configuration,
// https://specifications.freedesktop.org/autostart-spec. The file there is ours by its mark.

const (
	autostartName = "hither-gui.desktop"
	autostartMark = "X-Hither-Autostart=true"
)

func autostartFile() (string, error) {
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("finding the folder of what is started with the session: %w", err)
	}
	return filepath.Join(base, "autostart", autostartName), nil
}

// Autostart says whether hither is started with the session.
func Autostart() (bool, error) {
	file, err := autostartFile()
	if err != nil {
		return false, err
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking whether hither is started with the session: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		// The desktop's own settings switch it off by one of these.
		switch strings.ReplaceAll(strings.TrimSpace(line), " ", "") {
		case "Hidden=true", "X-GNOME-Autostart-enabled=false":
			return false, nil
		}
	}
	return true, nil
}

// SetAutostart has hither started with the session, in the tray, or not any more.
func SetAutostart(on bool) error {
	file, err := autostartFile()
	if err != nil {
		return err
	}
	if err := setAutostart(file, on); err != nil {
		return fmt.Errorf("changing what is started with the session: %w", err)
	}
	return nil
}

func setAutostart(file string, on bool) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err == nil && !bytes.Contains(old, []byte(autostartMark)) {
		return fmt.Errorf("%s is not hither's own: remove it first, if you do not need it", file)
	}
	if !on {
		if err != nil {
			return nil
		}
		return os.Remove(file)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	text := "[Desktop Entry]\nType=Application\nName=hither\nComment=Move running apps between your machines\nIcon=hither\n" +
		"Exec=" + desktop.Quote(program) + " --background\nTerminal=false\nX-GNOME-Autostart-enabled=true\n" + autostartMark + "\n"
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	temp := file + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, file)
}
