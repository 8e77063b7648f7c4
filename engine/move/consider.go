package move

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/capsule"
	"hither/engine/checkpoint"
	"hither/engine/files"
	"hither/engine/handover"
	"hither/engine/restore"
)

// Consider see handover.Destination.
func (d *Destination) Consider(ctx context.Context, offer *handover.Offer) (*handover.Answer, error) {
	d.offer, d.came = offer, monotonic()
	if !offer.Came.IsZero() {
		d.came -= time.Since(offer.Came).Nanoseconds()
	}
	answer := &handover.Answer{Host: d.env.Self.Name}
	refuse := func(cure, format string, args ...any) {
		answer.Problems = append(answer.Problems, handover.Problem{What: fmt.Sprintf(format, args...), Cure: cure, Side: d.env.Self.Name})
	}
	var err error
	if d.rec, err = decodeRecord(offer.Capsule); err != nil {
		return nil, err
	}
	if d.rec.Spec.ID != offer.App {
		return nil, fmt.Errorf("the offer is of app %s, its description of %s", offer.App, d.rec.Spec.ID)
	}
	if d.need, err = files.DecodeNeed(offer.Files); err != nil {
		return nil, err
	}
	if err := d.compare(offer, answer, refuse); err != nil {
		return nil, err
	}
	if c, err := capsule.Open(offer.App); err == nil {
		st, err := c.State()
		c.Close()
		if err == nil && st.Init.Alive() {
			refuse("end the one here first: hither stop "+offer.Name, "a copy of %s is here already", offer.Name)
		}
	}
	if len(answer.Problems) > 0 {
		return answer, nil
	}
	d.incoming, err = files.NewIncoming(files.IncomingOptions{
		Dir: d.env.LayerDir(offer.App), Self: d.env.Self, Home: d.env.Home, Hasher: d.env.Hasher, Cache: d.env.Cache,
		Foreign: d.env.Started == nil || !d.env.Started(offer.App),
	})
	if err != nil {
		return nil, err
	}
	a, err := d.incoming.Answer(ctx, d.need)
	if err != nil {
		return nil, err
	}
	for _, r := range a.Refused {
		refuse("", "%s cannot be shown here: %s", r.Path, r.Why)
	}
	if answer.Files, err = a.Encode(); err != nil {
		return nil, err
	}
	answer.WantFiles, answer.WantBytes = len(a.Want), uint64(a.Bytes)
	d.budget = budget(offer.Memory)
	answer.Ahead = d.budget
	if offer.Check || len(answer.Problems) > 0 {
		d.dropIncoming()
	}
	return answer, nil
}

// compare holds what the app needs against what this host has, and answers which vdso that is.
func (d *Destination) compare(offer *handover.Offer, answer *handover.Answer, refuse func(cure, format string, args ...any)) error {
	here, err := checkpoint.ThisMachine()
	if err != nil {
		return err
	}
	if offer.Machine.Arch != here.Arch {
		refuse("", "the app is %s code, this machine is %s", offer.Machine.Arch, here.Arch)
		return nil
	}
	if !restore.ForceForeignVDSO {
		answer.VDSO = here.VDSOHash
	}
	if offer.Machine.PageSize != here.PageSize {
		refuse("", "the app has pages of %d bytes, this machine of %d", offer.Machine.PageSize, here.PageSize)
	}
	var lacking []string
	for _, f := range offer.Machine.CPUFlags {
		if !slices.Contains(here.CPUFlags, f) {
			lacking = append(lacking, f)
		}
	}
	if len(lacking) > 0 {
		refuse("start the app on this machine first, or with these features masked (GLIBC_TUNABLES=glibc.cpu.hwcaps=...)",
			"this processor lacks %s, which the app's has and which it may be using", strings.Join(lacking, " "))
	}
	if uid, gid := unix.Getuid(), unix.Getgid(); d.rec.UID != uid || d.rec.GID != gid {
		refuse("use the same user and group id on both", "the app runs as user %d, group %d, and hither here as %d, %d", d.rec.UID, d.rec.GID, uid, gid)
	}
	names := map[int]string{
		unix.RLIMIT_CPU: "processor time", unix.RLIMIT_FSIZE: "file size", unix.RLIMIT_DATA: "data", unix.RLIMIT_STACK: "stack",
		unix.RLIMIT_NOFILE: "open files", unix.RLIMIT_AS: "address space", unix.RLIMIT_MEMLOCK: "locked memory",
		unix.RLIMIT_MSGQUEUE: "message queues", unix.RLIMIT_NICE: "nice", unix.RLIMIT_RTPRIO: "real-time priority",
	}
	for r, want := range offer.Limits {
		name, ok := names[r]
		var lim unix.Rlimit
		if !ok || unix.Getrlimit(r, &lim) != nil {
			continue
		}
		// Only what the app uses of it counts; what it could still ask for
		// depends on the machine (the kernel's defaults grow with its memory).
		if lim.Max < want.Cur && r != unix.RLIMIT_MEMLOCK {
			refuse(fmt.Sprintf("raise the hard limit here (ulimit -H, limits.conf) to %s and start hither again", limit(want.Cur)),
				"the hard limit of %s here is %s, the app has %s", name, limit(lim.Max), limit(want.Cur))
		}
	}
	if free := memoryFree(); free > 0 && offer.Memory > free {
		refuse("end something here", "the app has %d MB of memory, %d MB are free here", offer.Memory>>20, free>>20)
	}
	return nil
}

func limit(v uint64) string {
	if v == ^uint64(0) {
		return "unlimited"
	}
	return fmt.Sprint(v)
}

func memoryFree() uint64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	var sum uint64
	for line := range strings.Lines(string(data)) {
		var n uint64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &n); err == nil {
			sum += n << 10
		}
		if _, err := fmt.Sscanf(line, "SwapFree: %d kB", &n); err == nil {
			sum += n << 10
		}
	}
	return sum
}
