import ctypes, os
from probe import *

# System V IPC: memory, semaphores and message queues, with ids, keys, modes and
# what is in them; a child shares some of it.
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
libc.shmdt.argtypes = [ctypes.c_void_p]
libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = libc.mprotect_ = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.msgsnd.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
libc.msgrcv.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long, ctypes.c_int]
CREATE, EXCL, RDONLY, RMID, SET, STAT, UNDO, NOWAIT, PAGE = 0o1000, 0o2000, 0o10000, 0, 1, 2, 0o10000, 0o4000, 4096


def ok(v, what=""):
    if v is None or v in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), what + " " + os.strerror(ctypes.get_errno()))
    return v


class Perm(ctypes.Structure):
    _fields_ = [("key", ctypes.c_int32), ("uid", ctypes.c_uint32), ("gid", ctypes.c_uint32), ("cuid", ctypes.c_uint32),
                ("cgid", ctypes.c_uint32), ("mode", ctypes.c_uint32), ("seq", ctypes.c_ulong), ("u", ctypes.c_ulong * 2)]


class Shm(ctypes.Structure):
    _fields_ = [("perm", Perm), ("size", ctypes.c_size_t), ("times", ctypes.c_long * 3), ("cpid", ctypes.c_int),
                ("lpid", ctypes.c_int), ("nattch", ctypes.c_ulong), ("rest", ctypes.c_ulong * 2)]


class Msg(ctypes.Structure):
    _fields_ = [("perm", Perm), ("times", ctypes.c_long * 3), ("cbytes", ctypes.c_ulong), ("qnum", ctypes.c_ulong),
                ("qbytes", ctypes.c_ulong), ("pids", ctypes.c_int * 2), ("rest", ctypes.c_ulong * 2)]


class Sembuf(ctypes.Structure):
    _fields_ = [("num", ctypes.c_ushort), ("op", ctypes.c_short), ("flg", ctypes.c_short)]


def shmstat(id):
    s = Shm()
    ok(libc.shmctl(id, STAT, ctypes.byref(s)), "shmctl")
    return s


def shm(key, size, mode=0o600):
    return ok(libc.shmget(key, size, CREATE | EXCL | mode), "shmget")


def attach(id, flags=0, at=None):
    return ok(libc.shmat(id, at, flags), "shmat")


def semop(id, *ops):
    a = (Sembuf * len(ops))(*ops)
    ok(libc.semop(id, a, len(ops)), "semop")


def value(id, n):
    return ok(libc.semctl(id, n, 12), "semctl")


def perms(at):
    return [l.split()[1] for l in open("/proc/self/maps") if l.startswith("%x-" % at)]


def child(r, w):
    """One that shares memory and semaphores; its end gives back what it owes."""
    semop(g.sem, (1, -1, UNDO))
    ctypes.memmove(g.both + 50, b"from the child", 14)
    os.write(w, b"r")
    while True:
        c = os.read(r, 1)
        if c == b"":
            os._exit(0)
        if c == b"l":
            os.write(w, ctypes.string_at(g.both + 5000, 4))
        if c == b"s":  # waits until somebody else lets it
            os.write(w, b"w")
            semop(g.sem, (2, -1, 0))
            os.write(w, b"W")


class g:
    pass


def setup():
    # Ids that are not just 0, 1, 2: segments come and go.
    for i in range(70):
        ok(libc.shmctl(shm(0, PAGE), RMID, None))
    g.keyed = shm(0x1234, 10000, 0o640)
    g.keyed_at = attach(g.keyed)
    ctypes.memmove(g.keyed_at + 9990, b"the end", 7)
    g.ro_at = attach(g.keyed, RDONLY)
    # Like MIT-SHM: removed at once, and lives while it is attached.
    g.dest = shm(0, 1 << 20)
    g.both = attach(g.dest)
    ok(libc.shmctl(g.dest, RMID, None))
    ctypes.memmove(g.both, b"will go", 7)
    g.alone = shm(0x77, 3 * PAGE)  # nobody has it attached
    p = attach(g.alone)
    ctypes.memmove(p + 2 * PAGE, b"alone", 5)
    ok(libc.shmdt(p))
    # With a hole and parts of other rights.
    g.parts = shm(0, 8 * PAGE)
    g.parts_at = attach(g.parts)
    for i in range(8):
        ctypes.memmove(g.parts_at + i * PAGE, b"part %d" % i, 6)
    ok(libc.munmap(g.parts_at + 2 * PAGE, PAGE))
    ok(libc.mprotect(g.parts_at + 5 * PAGE, PAGE, 1))
    ok(libc.mprotect(g.parts_at + 6 * PAGE, PAGE, 0))
    g.tail = shm(0, 4 * PAGE)  # of which no process has the beginning
    g.tail_at = attach(g.tail)
    ctypes.memmove(g.tail_at, b"unseen", 6)
    ok(libc.munmap(g.tail_at, 2 * PAGE))
    g.sem = ok(libc.semget(0x55, 4, CREATE | EXCL | 0o600), "semget")
    for n, v in enumerate((5, 1, 0, 32767)):
        ok(libc.semctl(g.sem, n, 16, v))
    semop(g.sem, (0, -2, UNDO))
    semop(g.sem, (3, -32767, UNDO))
    semop(g.sem, (3, 32766, 0))
    g.q = ok(libc.msgget(0x66, CREATE | 0o600), "msgget")
    for i in range(5):
        m = b"message %d" % i + b"." * i * 1000
        ok(libc.msgsnd(g.q, (i % 2 + 1).to_bytes(8, "little") + m, len(m), 0))
    s = Msg()
    ok(libc.msgctl(g.q, STAT, ctypes.byref(s)))
    s.qbytes, s.perm.mode = 9000, 0o440
    ok(libc.msgctl(g.q, SET, ctypes.byref(s)))
    g.empty = ok(libc.msgget(0, CREATE | 0o600))
    r1, w1 = os.pipe()
    r2, w2 = os.pipe()
    g.pid = os.fork()
    if g.pid == 0:
        os.close(w1)
        os.close(r2)
        child(r1, w2)
    os.close(r1)
    os.close(w2)
    g.to, g.fro = at(w1, 50), at(r2, 51)
    eq(os.read(51, 1), b"r")
    os.write(50, b"s")
    eq(os.read(51, 1), b"w")
    g.before = {k: shmstat(getattr(g, k)) for k in ("keyed", "dest", "alone", "parts", "tail")}


def verify():
    for k, was in g.before.items():
        now = shmstat(getattr(g, k))
        for f in ("key", "uid", "gid", "mode"):
            eq(getattr(now.perm, f), getattr(was.perm, f), k + " " + f)
        eq(now.size, was.size, k + " size")
        if k == "keyed":
            eq(now.perm.mode, 0o640, "mode")
        eq(now.nattch, was.nattch, k + " attached")
    eq(libc.shmget(0x1234, 0, 0), g.keyed, "found by its key")
    eq(ctypes.string_at(g.keyed_at + 9990, 7), b"the end")
    ctypes.memmove(g.keyed_at, b"written here", 12)
    eq(ctypes.string_at(g.ro_at, 12), b"written here", "the same memory twice")
    eq(perms(g.ro_at), ["r--s"], "read only")
    eq(libc.mprotect(g.ro_at, PAGE, 3), -1, "stays read only")
    eq(ctypes.string_at(g.both, 7), b"will go")
    eq(ctypes.string_at(g.both + 50, 14), b"from the child")
    ctypes.memmove(g.both + 5000, b"deep", 4)
    p = attach(g.alone)
    eq(ctypes.string_at(p + 2 * PAGE, 5), b"alone")
    ok(libc.shmdt(p))
    eq([perms(g.parts_at + i * PAGE) for i in (0, 3, 5, 6, 7)], [["rw-s"], ["rw-s"], ["r--s"], ["---s"], ["rw-s"]], "rights of the parts")
    p = attach(g.parts)
    for i in range(8):
        eq(ctypes.string_at(p + i * PAGE, 6), b"part %d" % i)
    eq(ctypes.string_at(g.parts_at + 3 * PAGE, 6), b"part 3")
    eq(perms(g.parts_at + 2 * PAGE), [], "the hole")
    ok(libc.shmdt(p))
    ok(libc.shmdt(g.parts_at))
    eq(shmstat(g.parts).nattch, g.before["parts"].nattch // 2, "all parts let go")
    p = attach(g.tail)
    eq(ctypes.string_at(p, 6), b"unseen")
    # Semaphores, and a child that waits for one.
    eq([value(g.sem, n) for n in range(4)], [3, 0, 0, 32766], "semaphores")
    semop(g.sem, (2, 1, 0))
    eq(os.read(51, 1), b"W", "the waiting child")
    os.write(50, b"l")
    eq(os.read(51, 4), b"deep", "the child's view")
    os.close(50)
    eq(os.waitpid(g.pid, 0)[1], 0, "the child's end")
    eq(value(g.sem, 1), 1, "what the child owed")
    eq(shmstat(g.dest).nattch, 1, "the child's memory")
    ok(libc.shmdt(g.both))
    eq(libc.shmctl(g.dest, STAT, ctypes.byref(Shm())), -1, "it went with the last")
    # What this process owes (2) is felt by how much more fits in.
    eq(libc.semop(g.sem, (Sembuf * 3)((0, -3, 0), (0, 32767, 0), (0, -32767, UNDO)), 3), -1, "owes 2, so 32767 more are too many")
    eq(ctypes.get_errno(), 34)
    semop(g.sem, (0, -3, 0), (0, 32765, 0), (0, -32765, UNDO))
    # Messages.
    s = Msg()
    ok(libc.msgctl(g.q, STAT, ctypes.byref(s)))
    eq((s.perm.key, s.perm.mode, s.qnum, s.qbytes), (0x66, 0o440, 5, 9000), "the queue")
    got = []
    for t in (2, 2, 0, 0, 0):
        b = ctypes.create_string_buffer(9000)
        n = ok(libc.msgrcv(g.q, b, 8192, t, NOWAIT), "msgrcv")
        got.append((int.from_bytes(b.raw[:8], "little"), b.raw[8:8 + n]))
    eq(got, [(i % 2 + 1, b"message %d" % i + b"." * i * 1000) for i in (1, 3, 0, 2, 4)], "messages")
    eq(libc.msgrcv(g.empty, ctypes.create_string_buffer(100), 50, 0, NOWAIT), -1, "nothing in it")


main(setup, verify)
