# Writes to memory of every kind while it is sent ahead, and keeps account of what
# must lie where.
import ctypes, mmap, os, random, threading, time
from probe import *

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
for f in (libc.mprotect, libc.madvise):
    f.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.shmat.restype = ctypes.c_void_p
PAGE = 4096
BAD = ctypes.c_void_p(-1).value
FIXED, NORESERVE = 0x10, 0x4000


def raw(size, prot=3, flags=0x22, at=None, fd=-1):
    p = libc.mmap(at, size, prot, flags, fd, 0)
    assert p not in (None, BAD), "mmap"
    return p


class Field:
    """Pages whose first 8 bytes are known; None: not mapped, or of a file."""

    def __init__(self, name, at, pages, rest=0):
        self.name, self.at, self.want = name, at, [rest] * pages

    def write(self, page, value):
        self.want[page] = value
        ctypes.c_uint64.from_address(self.at + page * PAGE).value = value

    def check(self):
        for page, want in enumerate(self.want):
            if want is not None:
                eq(ctypes.c_uint64.from_address(self.at + page * PAGE).value, want, f"{self.name}, page {page}")


def child(pipe):
    """A fork: its memory is its own from then on."""
    f = fields[0]
    for page in range(0, len(f.want), 7):
        f.write(page, 1000 + page)
    for f in fields:
        if f.name in ("shared", "memfd", "System V"):
            f.want = [None] * len(f.want)
    os.read(pipe, 1)
    for f in fields:
        f.check()
    os._exit(0)


def turn(n):
    for f in fields:
        for _ in range(20):
            page = rnd.randrange(len(f.want))
            if f.want[page] is not None:
                f.write(page, n * 1000003 + page)
    plain, wild = fields[0], fields[1]
    at = rnd.randrange(len(wild.want) - 8)
    start = wild.at + at * PAGE
    what = n % 8
    if what == 0:  # gone and new: zeros
        libc.munmap(start, 4 * PAGE)
        raw(4 * PAGE, flags=0x22 | FIXED, at=start)
        wild.want[at:at + 4] = [0] * 4
    elif what == 1:  # given up: zeros
        libc.madvise(start, 4 * PAGE, 4)
        wild.want[at:at + 4] = [0] * 4
    elif what == 2:  # other memory moves there
        new = raw(4 * PAGE)
        for i in range(4):
            ctypes.c_uint64.from_address(new + i * PAGE).value = n + i
        eq(libc.mremap(new, 4 * PAGE, 4 * PAGE, 3, start), start, "mremap")
        wild.want[at:at + 4] = [n + i for i in range(4)]
    elif what == 3:  # memory that may be read only
        libc.mprotect(start, 4 * PAGE, 1)
        libc.mprotect(start, 4 * PAGE, 3)
    elif what == 4:  # a file is mapped there for a while
        raw(4 * PAGE, flags=2 | FIXED, at=start, fd=file)
        ctypes.c_uint64.from_address(start).value = 77
        raw(4 * PAGE, flags=0x22 | FIXED, at=start)
        wild.want[at:at + 4] = [0] * 4
    elif what == 5:  # memory of the other kind
        raw(4 * PAGE, flags=0x22 | FIXED | NORESERVE, at=start)
        wild.want[at:at + 4] = [0] * 4
        wild.write(at + 1, n)
    elif what == 7:  # a page is the file's again, another is all zeros
        of = fields[6]
        page = rnd.randrange(64)
        libc.madvise(of.at + page * PAGE, PAGE, 4)
        of.want[page] = page + 1
        page = rnd.randrange(64)
        ctypes.memset(of.at + page * PAGE, 0, PAGE)
        of.want[page] = 0
    elif what == 6:  # a hole, and a page of zeros
        libc.munmap(start, 2 * PAGE)
        wild.want[at:at + 2] = [None] * 2
        raw(2 * PAGE, flags=0x22 | FIXED, at=start)
        wild.want[at:at + 2] = [0] * 2
        ctypes.c_uint64.from_address(start).value
        if len(children) < 3 and n > 50:
            r, w = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(w)
                try:
                    child(r)
                finally:
                    os._exit(1)
            os.close(r)
            children.append((pid, w))


def work():
    n = 0
    try:
        while not over.is_set():
            n += 1
            with lock:
                turn(n)
            time.sleep(0.0005)
    except BaseException as e:
        wrong.append(repr(e))


def setup():
    global fields, rnd, file, over, lock, wrong, children, worker, keep, heap, digest
    rnd, over, lock, wrong, children = random.Random(7), threading.Event(), threading.Lock(), [], []
    with open("/tmp/ahead", "wb") as f:
        for page in range(64):
            f.write((page + 1).to_bytes(8, "little").ljust(PAGE, b"f"))
    file = os.open("/tmp/ahead", os.O_RDONLY)
    memfd = os.memfd_create("ahead")
    os.ftruncate(memfd, 256 * PAGE)
    shmid = libc.shmget(0, 64 * PAGE, 0o1600)
    fields = [
        Field("anonymous", raw(1024 * PAGE), 1024),
        Field("changing", raw(1024 * PAGE), 1024),
        Field("not reserved", raw(512 * PAGE, flags=0x22 | NORESERVE), 512),
        Field("shared", raw(256 * PAGE, flags=0x21), 256),
        Field("memfd", raw(256 * PAGE, flags=1, fd=memfd), 256),
        Field("System V", libc.shmat(shmid, None, 0), 64),
        Field("file", raw(64 * PAGE, flags=2, fd=file), 64),
    ]
    fields[-1].want = [page + 1 for page in range(64)]
    huge = raw(8 << 20)
    huge = (huge + (2 << 20) - 1) & ~((2 << 20) - 1)
    libc.madvise(huge, 4 << 20, 14)
    fields.append(Field("huge", huge, 1024))
    keep = bytearray(os.urandom(1 << 20) * 4)
    heap = [os.urandom(100) for _ in range(20000)]
    digest = hash(bytes(keep)), [hash(x) for x in heap]
    for f in fields[:3] + fields[-1:]:
        for page in range(len(f.want)):
            f.write(page, page + 1)
    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(0.1)


def verify():
    over.set()
    worker.join()
    eq(wrong, [], "the writer")
    for f in fields:
        f.check()
    eq((hash(bytes(keep)), [hash(x) for x in heap]), digest, "heap")
    for pid, w in children:
        os.close(w)
    for pid, w in children:
        eq(os.waitpid(pid, 0)[1], 0, "a child")
    eq(len(children) > 0, True, "children")
    for line in open("/proc/self/smaps"):
        if line.startswith("VmFlags") and (" um" in line or " uw" in line):
            raise AssertionError("still watched")


main(setup, verify)
