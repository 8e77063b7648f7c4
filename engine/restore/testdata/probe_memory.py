import ctypes, hashlib, mmap, os, time
from probe import *

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
for f in (libc.mprotect, libc.madvise, libc.mlock, libc.munmap):
    f.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 1
libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PAGE = 4096


def raw(size, prot=3, flags=0x22):
    p = libc.mmap(None, size, prot, flags, -1, 0)
    assert p not in (None, ctypes.c_void_p(-1).value), "mmap"
    return p


def vmflags(addr):
    found = False
    for line in open("/proc/self/smaps"):
        f = line.split()
        if "-" in f[0]:
            a, b = (int(x, 16) for x in f[0].split("-"))
            found = a <= addr < b
        elif found and f[0] == "VmFlags:":
            return set(f[1:])


def setup():
    global big, digest, sparse, hidden, ro, locked, advised, shared, child_pipe, parent_pipe, child, mf, filemap, guarded, has_guard
    big = bytearray(os.urandom(1 << 20) * 24)
    digest = hashlib.sha256(big).digest()
    sparse = mmap.mmap(-1, 1 << 30)  # 1 GiB of nothing but a little
    for i in range(0, 1 << 30, 64 << 20):
        sparse[i:i + 5] = b"here!"
    hidden = raw(4 * PAGE)
    ctypes.memmove(hidden + 100, b"behind PROT_NONE", 16)
    libc.mprotect(hidden, 4 * PAGE, 0)
    ro = raw(PAGE)
    ctypes.memmove(ro, b"read only", 9)
    libc.mprotect(ro, PAGE, 1)
    locked = raw(PAGE * 2)
    libc.mlock(locked, PAGE * 2)
    advised = raw(PAGE * 16)
    for a in (10, 16, 18):  # DONTFORK, DONTDUMP, WIPEONFORK
        libc.madvise(advised, PAGE * 16, a)
    guarded = raw(PAGE * 4)
    ctypes.memmove(guarded, b"guarded", 7)
    has_guard = libc.madvise(guarded + PAGE, PAGE, 102) == 0
    shared = mmap.mmap(-1, 1 << 20)  # MAP_SHARED | MAP_ANONYMOUS
    shared[0:6] = b"common"
    with open("/tmp/mapped", "wb") as f:
        f.write(b"x" * 10000)
    f = os.open("/tmp/mapped", os.O_RDWR)
    filemap = mmap.mmap(f, 10000)
    os.close(f)
    filemap[5000:5005] = b"FILE!"
    mf = os.memfd_create("probe")
    os.ftruncate(mf, 1 << 16)
    at(mf, 40)
    m = mmap.mmap(40, 1 << 16)
    m[100:103] = b"mfd"
    globals()["memfd_map"] = m
    r1, w1 = os.pipe()
    r2, w2 = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(w1)
        os.close(r2)
        while True:
            c = os.read(r1, 1)
            if c == b"":
                os._exit(0)
            if c == b"w":
                shared[100:105] = b"child"
                os.write(w2, b"k")
            if c == b"r":
                os.write(w2, bytes(shared[0:12]))
    os.close(r1)
    os.close(w2)
    parent_pipe, child_pipe = w1, r2


def verify():
    eq(hashlib.sha256(big).digest(), digest, "24 MiB")
    for i in range(0, 1 << 30, 64 << 20):
        eq(sparse[i:i + 5], b"here!", f"sparse {i}")
        eq(sparse[i + 4096:i + 4106], bytes(10), "nothing")
    rss = int(open("/proc/self/statm").read().split()[1]) * PAGE
    eq(rss < 200 << 20, True, f"resident {rss >> 20} MB")
    eq(libc.mprotect(hidden, 4 * PAGE, 1), 0, "mprotect")
    eq(ctypes.string_at(hidden + 100, 16), b"behind PROT_NONE")
    eq(ctypes.string_at(ro, 9), b"read only")
    eq("wr" in vmflags(ro), False, "still read only")
    eq("lo" in vmflags(locked), True, "locked")
    eq({"dc", "dd", "wf"} <= vmflags(advised), True, "advice")
    eq(ctypes.string_at(guarded, 7), b"guarded")
    if has_guard:
        pid = os.fork()
        if pid == 0:
            ctypes.string_at(guarded + PAGE, 1)
            os._exit(0)
        eq(os.WTERMSIG(os.waitpid(pid, 0)[1]), 11, "the guard")
    eq(filemap[5000:5005], b"FILE!", "file")
    filemap[5005:5010] = b"again"
    eq(open("/tmp/mapped", "rb").read()[5000:5010], b"FILE!again", "through the file")
    eq(bytes(globals()["memfd_map"][100:103]), b"mfd", "memfd")
    eq(os.pread(40, 3, 100), b"mfd", "memfd by descriptor")
    os.pwrite(40, b"MFD", 100)
    eq(bytes(globals()["memfd_map"][100:103]), b"MFD", "one memory")
    os.write(parent_pipe, b"w")
    eq(os.read(child_pipe, 1), b"k")
    eq(bytes(shared[100:105]), b"child", "from the child")
    shared[0:12] = b"to the child"
    os.write(parent_pipe, b"r")
    eq(os.read(child_pipe, 12), b"to the child")
    os.close(parent_pipe)
    eq(os.waitpid(child, 0)[1], 0, "the child's end")
    grown = bytearray(1 << 22)  # malloc, brk and mmap still work
    grown[-1] = 1


main(setup, verify)
