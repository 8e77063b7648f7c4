// Package launch is what `hither run` and the daemon have in common when they start
// an app: its name, where it comes from, and what to do about a browser's sandboxes.
// It holds no lock.
package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/paths"
	"hither/transport"
)

// Name is a name that no app here has: the wanted one, or one like the command's.
func Name(wanted string, argv []string) (string, error) {
	dir, err := paths.Capsules()
	if err != nil {
		return "", err
	}
	all, err := capsule.List(dir)
	if err != nil {
		return "", err
	}
	var taken []string
	for _, c := range all {
		taken = append(taken, c.Spec().Name)
	}
	if wanted != "" {
		if err := checkName(wanted); err != nil {
			return "", &control.Error{Text: "naming the app: " + err.Error(), Code: control.CodeUsage}
		}
		if slices.Contains(taken, wanted) {
			return "", &control.Error{Text: fmt.Sprintf("an app named %q runs here already", wanted),
				Hint: "choose another --name, or `hither attach " + wanted + "`", Code: control.CodeUsage}
		}
		return wanted, nil
	}
	base := capsule.NameFor(argv)
	name := base
	for i := 2; slices.Contains(taken, name); i++ {
		name = base + "-" + strconv.Itoa(i)
	}
	return name, nil
}

func checkName(name string) error {
	if name == "" || len(name) > 64 || name != filepath.Base(name) || name[0] == '.' || name[0] == '-' {
		return fmt.Errorf("%q: a name has at most 64 bytes, no slash, and begins with neither dot nor dash", name)
	}
	for _, r := range name {
		if r <= ' ' || r == '@' || r == 0x7f {
			return fmt.Errorf("%q: a name has no spaces and no @", name)
		}
	}
	return nil
}

// Origin says that an app is started here.
func Origin() capsule.Origin {
	data, err := paths.Data()
	if err != nil {
		return capsule.Origin{}
	}
	id, err := transport.LoadIdentity(data)
	if err != nil {
		return capsule.Origin{}
	}
	host, _ := os.Hostname()
	return capsule.Origin{HostID: string(id.ID()), HostName: transport.CleanName(host)}
}
