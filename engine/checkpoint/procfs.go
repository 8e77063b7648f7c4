package checkpoint

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"hither/engine/image"
	"hither/engine/kernel"
)

// stat is what /proc/PID/stat tells (proc_pid_stat(5)); ids are those of the
// pid namespace the /proc belongs to.
type stat struct {
	Comm                   string
	State                  byte
	Parent, Group, Session int
	TTY, Foreground        int
	Flags                  uint64
	ExitSignal, Processor  int
	Layout                 image.Layout
	ExitCode               int
}

func readStat(proc string) (stat, error) {
	data, err := kernel.ReadProc(filepath.Join(proc, "stat"))
	if err != nil {
		return stat{}, fmt.Errorf("reading what the process is: %w", err)
	}
	return parseStat(data)
}

func parseStat(data []byte) (stat, error) {
	var s stat
	open, shut := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || shut < open {
		return s, fmt.Errorf("/proc/PID/stat is not in the form of proc(5): %.80q", data)
	}
	s.Comm = string(data[open+1 : shut])
	fields := strings.Fields(string(data[shut+1:]))
	if len(fields) < 50 {
		return s, fmt.Errorf("/proc/PID/stat has %d fields", len(fields)+2)
	}
	bad := error(nil)
	// number returns field n as numbered in proc_pid_stat(5).
	number := func(n int) uint64 {
		text := fields[n-3]
		if strings.HasPrefix(text, "-") {
			v, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				bad = err
			}
			return uint64(v)
		}
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			bad = err
		}
		return v
	}
	s.State = fields[0][0]
	s.Parent, s.Group, s.Session = int(number(4)), int(number(5)), int(number(6))
	s.TTY, s.Foreground = int(number(7)), int(int64(number(8)))
	s.Flags = number(9)
	s.ExitSignal, s.Processor = int(int64(number(38))), int(number(39))
	s.Layout = image.Layout{
		StartCode: number(26), EndCode: number(27), StartStack: number(28),
		StartData: number(45), EndData: number(46), StartBrk: number(47),
		ArgStart: number(48), ArgEnd: number(49), EnvStart: number(50), EnvEnd: number(51),
	}
	s.ExitCode = int(number(52))
	return s, bad
}

// status is the text of /proc/PID/status.
type status []byte

func readStatus(proc string) (status, error) {
	data, err := kernel.ReadProc(filepath.Join(proc, "status"))
	if err != nil {
		return nil, fmt.Errorf("reading the state of the process: %w", err)
	}
	return data, nil
}

// text is the value of a line, "" if there is none of this name.
func (s status) text(name string) string {
	for rest := []byte(s); len(rest) > 0; {
		line := rest
		if end := bytes.IndexByte(rest, '\n'); end >= 0 {
			line, rest = rest[:end], rest[end+1:]
		} else {
			rest = nil
		}
		if len(line) > len(name) && line[len(name)] == ':' && string(line[:len(name)]) == name {
			return strings.TrimSpace(string(line[len(name)+1:]))
		}
	}
	return ""
}

func (s status) numbers(name string, base int) []uint64 {
	fields := strings.Fields(s.text(name))
	out := make([]uint64, 0, len(fields))
	for _, f := range fields {
		v, err := strconv.ParseUint(f, base, 64)
		if err != nil {
			return nil
		}
		out = append(out, v)
	}
	return out
}

func (s status) number(name string, base int) uint64 {
	if n := s.numbers(name, base); len(n) > 0 {
		return n[0]
	}
	return 0
}

// inner is the id in the innermost pid namespace.
func (s status) inner() int {
	n := s.numbers("NSpid", 10)
	if len(n) == 0 {
		return 0
	}
	return int(n[len(n)-1])
}

func (s status) creds() image.Creds {
	var c image.Creds
	for i, v := range s.numbers("Uid", 10) {
		if i < 4 {
			c.UID[i] = uint32(v)
		}
	}
	for i, v := range s.numbers("Gid", 10) {
		if i < 4 {
			c.GID[i] = uint32(v)
		}
	}
	for _, v := range s.numbers("Groups", 10) {
		c.Groups = append(c.Groups, uint32(v))
	}
	c.Inheritable = s.number("CapInh", 16)
	c.Permitted = s.number("CapPrm", 16)
	c.Effective = s.number("CapEff", 16)
	c.Bounding = s.number("CapBnd", 16)
	c.Ambient = s.number("CapAmb", 16)
	return c
}

// mapping is one entry of /proc/PID/smaps.
type mapping struct {
	Start, End, Offset uint64
	Perms              string
	Inode              uint64
	Path               string
	Flags              vmFlags
	Swap               uint64 // kB
}

// vmFlags are VmFlags of proc_pid_smaps(5): a bit for each two letters.
type vmFlags [26]uint32

func (f *vmFlags) set(flag []byte) {
	if len(flag) == 2 && flag[0]-'a' < 26 && flag[1]-'a' < 26 {
		f[flag[0]-'a'] |= 1 << (flag[1] - 'a')
	}
}

func (m *mapping) has(flag string) bool { return m.Flags[flag[0]-'a']&(1<<(flag[1]-'a')) != 0 }

func readMappings(host int) ([]mapping, error) {
	data, err := kernel.ReadProc(fmt.Sprintf("/proc/%d/smaps", host))
	if err != nil {
		return nil, fmt.Errorf("reading the mappings: %w", err)
	}
	return parseMappings(data)
}

func parseMappings(data []byte) ([]mapping, error) {
	var out []mapping
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 {
			continue
		}
		if line[0] >= 'A' && line[0] <= 'Z' {
			if len(out) == 0 {
				continue
			}
			m := &out[len(out)-1]
			if rest, ok := bytes.CutPrefix(line, []byte("VmFlags:")); ok {
				for flag := range bytes.FieldsSeq(rest) {
					m.Flags.set(flag)
				}
			}
			continue
		}
		m, err := parseMapping(string(line))
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func parseMapping(line string) (mapping, error) {
	var m mapping
	fail := func() (mapping, error) {
		return m, fmt.Errorf("a line of /proc/PID/smaps is not in the form of proc(5): %.120q", line)
	}
	fields := strings.SplitN(line, " ", 6)
	if len(fields) < 5 {
		return fail()
	}
	from, to, ok := strings.Cut(fields[0], "-")
	var e1, e2, e3, e4 error
	m.Start, e1 = strconv.ParseUint(from, 16, 64)
	m.End, e2 = strconv.ParseUint(to, 16, 64)
	m.Perms = fields[1]
	m.Offset, e3 = strconv.ParseUint(fields[2], 16, 64)
	m.Inode, e4 = strconv.ParseUint(fields[4], 10, 64)
	if !ok || e1 != nil || e2 != nil || e3 != nil || e4 != nil || len(m.Perms) < 4 {
		return fail()
	}
	if len(fields) == 6 {
		m.Path = strings.ReplaceAll(strings.TrimLeft(fields[5], " "), `\012`, "\n")
	}
	return m, nil
}
