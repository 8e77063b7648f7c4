package daemon

import (
	"hither/engine/control"
	"hither/engine/kernel"
)

// kernelProbes are the kernel's abilities, as tried by package kernel.
func kernelProbes() []control.Probe {
	var list []control.Probe
	for _, a := range kernel.Probe() {
		list = append(list, control.Probe{Name: a.Name, OK: a.OK, Need: a.Needed, Detail: a.Why, Cure: a.Cure})
	}
	return list
}
