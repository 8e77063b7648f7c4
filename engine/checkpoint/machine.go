package checkpoint

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// ThisMachine describes what code that runs here may rely on.
var ThisMachine = sync.OnceValues(thisMachine)

func thisMachine() (image.Machine, error) {
	m := image.Machine{Arch: runtime.GOARCH, PageSize: os.Getpagesize()}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return m, fmt.Errorf("asking the kernel its name: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(uts.Release[:])
	flags, err := cpuFlags()
	if err != nil {
		return m, err
	}
	m.CPUFlags = flags
	vdso, err := VDSO()
	if err != nil {
		return m, err
	}
	sum := blake3.Sum256(vdso)
	m.VDSO, m.VDSOHash = vdso, sum[:]
	m.VDSOSymbols, err = vdsoSymbols(vdso)
	return m, err
}

// userFlags are the CPU features that code in user space can come to rely on:
// those that glibc, Go, OpenSSL and their like choose their routines by.
var userFlags = map[string]bool{}

func init() {
	for _, f := range strings.Fields(`cx16 lahf_lm popcnt pni ssse3 sse4_1 sse4_2 sse4a avx avx2 f16c fma fma4 xop bmi1 bmi2 abm movbe
		aes pclmulqdq vaes vpclmulqdq sha_ni gfni rdrand rdseed adx fsgsbase rdtscp rdpid xsave xsaveopt xsavec xgetbv1 erms fsrm
		clflushopt clwb clzero 3dnowprefetch movdiri movdir64b serialize waitpkg rtm hle
		avx512f avx512cd avx512bw avx512dq avx512vl avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq
		avx512_bf16 avx512_fp16 avx512_vp2intersect avx_vnni avx_ifma amx_tile amx_int8 amx_bf16`) {
		userFlags[f] = true
	}
}

func cpuFlags() ([]string, error) {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, fmt.Errorf("reading what the processor can do: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		var out []string
		for _, f := range strings.Fields(value) {
			if userFlags[f] {
				out = append(out, f)
			}
		}
		slices.Sort(out)
		return out, nil
	}
	return nil, nil
}

// VDSO returns the image of the kernel's vdso as mapped into this process.
func VDSO() ([]byte, error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, fmt.Errorf("finding the vdso: %w", err)
	}
	for line := range bytes.Lines(maps) {
		if !bytes.Contains(line, []byte("[vdso]")) {
			continue
		}
		m, err := parseMapping(strings.TrimSpace(string(line)))
		if err != nil {
			return nil, err
		}
		mem, err := os.Open("/proc/self/mem")
		if err != nil {
			return nil, fmt.Errorf("reading the vdso: %w", err)
		}
		defer mem.Close()
		out := make([]byte, m.End-m.Start)
		if _, err := mem.ReadAt(out, int64(m.Start)); err != nil {
			return nil, fmt.Errorf("reading the vdso: %w", err)
		}
		return out, nil
	}
	return nil, nil // a kernel booted with vdso=0
}

func vdsoSymbols(vdso []byte) ([]image.Symbol, error) {
	if len(vdso) == 0 {
		return nil, nil
	}
	f, err := elf.NewFile(bytes.NewReader(vdso))
	if err != nil {
		return nil, fmt.Errorf("reading the vdso: %w", err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return nil, fmt.Errorf("reading the vdso: %w", err)
	}
	var out []image.Symbol
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && strings.HasPrefix(s.Name, "__vdso_") {
			out = append(out, image.Symbol{Name: s.Name, Offset: s.Value})
		}
	}
	slices.SortFunc(out, func(a, b image.Symbol) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
