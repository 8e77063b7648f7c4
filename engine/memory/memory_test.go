//go:build linux && amd64

package memory

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// holder is what a child of the test runs as: one that maps memory at fixed
// addresses, filled or empty, and then sits there.
const holder = "HITHER_MEMORY_HOLDER"

const (
	atAnon   = 0x6000_0000_0000
	atNone   = 0x6100_0000_0000
	atRead   = 0x6200_0000_0000
	atFile   = 0x6300_0000_0000
	atMany   = 0x6400_0000_0000
	sizeAnon = 24 << 20
	sizeRest = 1 << 20
	sizeMany = 64 << 20 // one page in three
)

func TestMain(m *testing.M) {
	if how := os.Getenv(holder); how != "" {
		if err := hold(how); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func mapAt(at, size uintptr, prot, flags, fd int) ([]byte, error) {
	got, _, errno := unix.Syscall6(unix.SYS_MMAP, at, size, uintptr(prot), uintptr(flags|unix.MAP_PRIVATE|unix.MAP_FIXED_NOREPLACE), uintptr(fd), 0)
	if errno != 0 {
		return nil, errno
	}
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&got))), size), nil
}

func hold(how string) error {
	const rw = unix.PROT_READ | unix.PROT_WRITE
	if how == "bench" {
		all, err := mapAt(atAnon, sizeBench, rw, unix.MAP_ANON, -1)
		if err != nil {
			return err
		}
		rand.NewChaCha8([32]byte{1}).Read(all)
		fmt.Println("ready")
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	}
	anon, err := mapAt(atAnon, sizeAnon, rw, unix.MAP_ANON, -1)
	if err != nil {
		return err
	}
	none, err := mapAt(atNone, sizeRest, rw, unix.MAP_ANON, -1)
	if err != nil {
		return err
	}
	read, err := mapAt(atRead, sizeRest, rw, unix.MAP_ANON, -1)
	if err != nil {
		return err
	}
	many, err := mapAt(atMany, sizeMany, rw, unix.MAP_ANON, -1)
	if err != nil {
		return err
	}
	file, err := os.Open(os.Getenv("HOLDER_FILE"))
	if err != nil {
		return err
	}
	mapped, err := mapAt(atFile, sizeRest, rw, 0, int(file.Fd()))
	if err != nil {
		return err
	}
	if how == "full" || how == "busy" {
		random := rand.NewChaCha8([32]byte{7})
		random.Read(anon[:8<<20])
		for i := 8 << 20; i < 16<<20; i++ {
			anon[i] = byte(i >> 9)
		}
		clear(anon[20<<20:]) // zeros that were written; 16-20 MiB never were
		random.Read(none)
		random.Read(read[:sizeRest/2])
		for i := 0; i < sizeMany; i += 3 * PageSize {
			random.Read(many[i : i+PageSize/2])
		}
		_ = mapped[9*PageSize]
		random.Read(mapped[3*PageSize : 5*PageSize])
		clear(mapped[7*PageSize : 8*PageSize])
	}
	if err := unix.Mprotect(none, unix.PROT_NONE); err != nil {
		return err
	}
	if err := unix.Mprotect(read, unix.PROT_READ); err != nil {
		return err
	}
	fmt.Println("ready")
	if how == "busy" {
		go keepBusy(anon, many, mapped)
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// keepBusy writes, gives pages up, and maps anew, without an end.
func keepBusy(anon, many, mapped []byte) {
	random := rand.New(rand.NewPCG(1, 2))
	for {
		at := random.IntN(len(anon))
		anon[at]++
		if random.IntN(50) == 0 {
			page := random.IntN(sizeAnon/PageSize-20) * PageSize
			_ = unix.Madvise(anon[page:page+3*PageSize], unix.MADV_DONTNEED)
		}
		if random.IntN(500) == 0 {
			page := random.IntN(sizeRest/PageSize) * PageSize
			mapped[page] = byte(at)
			page = random.IntN(sizeRest/PageSize) * PageSize
			_ = unix.Madvise(mapped[page:page+PageSize], unix.MADV_DONTNEED)
		}
		if random.IntN(20_000) == 0 {
			// The same place, another mapping.
			got, _, errno := unix.Syscall6(unix.SYS_MMAP, atMany, sizeMany, unix.PROT_READ|unix.PROT_WRITE,
				unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED, ^uintptr(0), 0)
			if errno != 0 || got != atMany {
				panic(errno)
			}
		}
		many[random.IntN(len(many))] = 1
	}
}

func holdFor(t testing.TB, how, file string) int {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), holder+"="+how, "HOLDER_FILE="+file)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the holder says %q %v", line, err)
	}
	return cmd.Process.Pid
}

func fileOf(t testing.TB) string {
	name := t.TempDir() + "/file"
	data := bytes.Repeat([]byte("a file that is not zero. "), sizeRest/25+1)[:sizeRest]
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

var maps = []Range{
	{Start: atAnon, End: atAnon + sizeAnon},
	{Start: atNone, End: atNone + sizeRest},
	{Start: atRead, End: atRead + sizeRest},
	{Start: atFile, End: atFile + sizeRest, KeepZeros: true},
	{Start: atMany, End: atMany + sizeMany},
}

func ranges(t testing.TB, pid int) []Range {
	t.Helper()
	s, err := OpenScanner(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var all []Range
	for _, m := range maps {
		found, err := s.Ranges(m.Start, m.End)
		if err != nil {
			t.Fatal(err)
		}
		for i := range found {
			found[i].KeepZeros = m.KeepZeros
		}
		s.old = true
		older, err := s.Ranges(m.Start, m.End)
		s.old = false
		if err != nil || Size(older) != Size(found) {
			t.Errorf("at %#x: %d bytes by scan, %d by the older way, %v", m.Start, Size(found), Size(older), err)
		}
		all = append(all, found...)
	}
	return all
}

func memoryOf(t testing.TB, pid int, r Range) []byte {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, r.End-r.Start)
	if _, err := f.ReadAt(b, int64(r.Start)); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProcessToProcess(t *testing.T) {
	file := fileOf(t)
	from := holdFor(t, "full", file)
	all := ranges(t, from)
	// 16+4 of the anonymous 24 MiB, all, half, three of the file's pages, a third.
	want := uint64(20<<20 + sizeRest + sizeRest/2 + 3*PageSize + (sizeMany/PageSize+2)/3*PageSize)
	if Size(all) != want {
		t.Errorf("%d bytes found, want %d", Size(all), want)
	}
	for _, options := range []Options{{}, {Plain: true}, {Workers: 1}, {Live: true, Workers: 4}} {
		to := holdFor(t, "empty", file)
		place := NewProcessPlace(to, maps)
		r, w := io.Pipe()
		var sent Totals
		var serr error
		done := make(chan bool)
		go func() {
			defer close(done)
			sent, serr = Send(context.Background(), w, []Source{{Kind: Process, ID: 5, Pid: from, Ranges: all}}, options)
			w.CloseWithError(serr)
		}()
		got, err := Receive(context.Background(), r, func(kind Kind, id uint32) (Place, error) {
			if kind != Process || id != 5 {
				return nil, fmt.Errorf("asked for %v %d", kind, id)
			}
			return place, nil
		})
		<-done
		if err != nil || serr != nil {
			t.Fatal(err, serr)
		}
		if got.Runs != sent.Runs || got.Bytes != sent.Bytes || got.Stored != sent.Stored {
			t.Errorf("sent %+v, got %+v", sent, got)
		}
		if sent.Zeros != 4<<20+PageSize || sent.Bytes != want-4<<20 {
			t.Errorf("%d bytes of zeros, %d of others", sent.Zeros, sent.Bytes)
		}
		if sent.Read != want {
			t.Errorf("%d bytes read, of %d", sent.Read, want)
		}
		if !options.Plain && sent.Stored >= sent.Bytes {
			t.Errorf("%d bytes are stored for %d", sent.Stored, sent.Bytes)
		}
		for _, m := range maps {
			if !bytes.Equal(memoryOf(t, from, m), memoryOf(t, to, m)) {
				t.Errorf("%+v: memory at %#x differs", options, m.Start)
			}
		}
		if err := place.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOutside(t *testing.T) {
	file := fileOf(t)
	from := holdFor(t, "full", file)
	to := holdFor(t, "empty", file)
	for _, allowed := range [][]Range{nil, {{Start: atAnon, End: atAnon + 5<<20}}, {{Start: atAnon + PageSize, End: atAnon + sizeAnon}}} {
		var stream bytes.Buffer
		source := Source{Kind: Process, ID: 5, Pid: from, Ranges: []Range{{Start: atAnon, End: atAnon + 6<<20}}}
		if _, err := Send(context.Background(), &stream, []Source{source}, Options{}); err != nil {
			t.Fatal(err)
		}
		_, err := Receive(context.Background(), &stream, func(Kind, uint32) (Place, error) { return NewProcessPlace(to, allowed), nil })
		if !errors.Is(err, ErrOutside) {
			t.Errorf("allowed %v: %v", allowed, err)
		}
	}
}

func TestSharedMemory(t *testing.T) {
	newFile := func(size int64) *os.File {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "test")
		t.Cleanup(func() { f.Close() })
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		return f
	}
	const size = 5<<20 + 123
	a, b := newFile(size), newFile(size)
	a.WriteAt([]byte("begin"), 0)
	a.WriteAt(bytes.Repeat([]byte("middle"), 1000), 3<<20)
	a.WriteAt([]byte("end"), size-3)
	var stream bytes.Buffer
	sent, err := Send(context.Background(), &stream, []Source{{Kind: Shared, ID: 9, File: a, Size: size}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if sent.Bytes > 10*PageSize {
		t.Errorf("%d bytes sent of %d written", sent.Bytes, 6008)
	}
	rest := strings.NewReader("what follows")
	in := io.MultiReader(&stream, rest)
	if _, err := Receive(context.Background(), in, func(Kind, uint32) (Place, error) { return NewFilePlace(int(b.Fd()), size), nil }); err != nil {
		t.Fatal(err)
	}
	if left, _ := io.ReadAll(in); string(left) != "what follows" {
		t.Errorf("it left %q", left)
	}
	x, y := make([]byte, size), make([]byte, size)
	a.ReadAt(x, 0)
	b.ReadAt(y, 0)
	if !bytes.Equal(x, y) {
		t.Error("the files differ")
	}
	// A file that is smaller than what comes.
	stream.Reset()
	if _, err := Send(context.Background(), &stream, []Source{{Kind: Shared, ID: 9, File: a, Size: size}}, Options{}); err != nil {
		t.Fatal(err)
	}
	_, err = Receive(context.Background(), &stream, func(Kind, uint32) (Place, error) { return NewFilePlace(int(b.Fd()), size-1), nil })
	if !errors.Is(err, ErrOutside) {
		t.Error(err)
	}
}

func TestCancelAndBadWriter(t *testing.T) {
	file := fileOf(t)
	from := holdFor(t, "full", file)
	all := []Source{{Kind: Process, ID: 1, Pid: from, Ranges: ranges(t, from)}}
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	go func() {
		io.CopyN(io.Discard, r, 2<<20)
		cancel()
		io.Copy(io.Discard, r)
	}()
	if _, err := Send(ctx, w, all, Options{Plain: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	w.Close()
	r2, w2 := io.Pipe()
	broken := errors.New("the link broke")
	go func() {
		io.CopyN(io.Discard, r2, 3<<20)
		r2.CloseWithError(broken)
	}()
	if _, err := Send(context.Background(), w2, all, Options{Plain: true}); !errors.Is(err, broken) {
		t.Errorf("broken: %v", err)
	}
	// A process that ends meanwhile.
	all[0].Pid = 1 << 22
	if _, err := Send(context.Background(), io.Discard, all, Options{}); err == nil {
		t.Error("a process that is not there was sent")
	}
}

func BenchmarkRead(b *testing.B) {
	benchmark(b, func(b *testing.B, from int, all []Range) {
		if _, err := Send(context.Background(), io.Discard, []Source{{Kind: Process, ID: 1, Pid: from, Ranges: all}}, Options{Plain: true}); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkReadAndPack(b *testing.B) {
	benchmark(b, func(b *testing.B, from int, all []Range) {
		if _, err := Send(context.Background(), io.Discard, []Source{{Kind: Process, ID: 1, Pid: from, Ranges: all}}, Options{}); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkStream(b *testing.B) {
	to := holdBench(b)
	place := NewProcessPlace(to, []Range{{Start: atAnon, End: atAnon + sizeBench}})
	benchmark(b, func(b *testing.B, from int, all []Range) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		r, w := os.NewFile(uintptr(pair[0]), "r"), os.NewFile(uintptr(pair[1]), "w")
		go func() {
			defer w.Close()
			if _, err := Send(context.Background(), w, []Source{{Kind: Process, ID: 1, Pid: from, Ranges: all}}, Options{}); err != nil {
				b.Error(err)
			}
		}()
		if _, err := Receive(context.Background(), r, func(Kind, uint32) (Place, error) { return place, nil }); err != nil {
			b.Fatal(err)
		}
		r.Close()
	})
}

func BenchmarkPlainCopy(b *testing.B) {
	from, to := make([]byte, sizeBench), make([]byte, sizeBench)
	rand.NewChaCha8([32]byte{1}).Read(from)
	b.SetBytes(sizeBench)
	for b.Loop() {
		copy(to, from)
	}
}

const sizeBench = 256 << 20

func holdBench(b *testing.B) int {
	b.Helper()
	return holdFor(b, "bench", fileOf(b))
}

func benchmark(b *testing.B, once func(b *testing.B, from int, all []Range)) {
	from := holdBench(b)
	all, err := Ranges(from, atAnon, atAnon+sizeBench)
	if err != nil || Size(all) != sizeBench {
		b.Fatal(len(all), Size(all), err)
	}
	b.SetBytes(sizeBench)
	for b.Loop() {
		once(b, from, all)
	}
}
