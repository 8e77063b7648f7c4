package assets

import (
	_ "embed"
	"strings"
)

//go:embed apparmor
var appArmor string

// AppArmor is a profile that lets the program in this folder make user namespaces.
func AppArmor(folder string) string { return strings.ReplaceAll(appArmor, "@BINDIR@", folder) }
