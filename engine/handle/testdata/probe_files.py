import fcntl, os, stat, struct
from probe import *


def path(name):
    return os.path.join(DIR, name)


def setup():
    f = at(os.open(path("a"), os.O_RDWR | os.O_CREAT, 0o640), 10)
    os.write(f, b"hello world")
    os.lseek(f, 5, 0)
    os.dup2(f, 11)  # shares the offset
    at(os.open(path("a"), os.O_RDONLY), 12, False)  # does not
    at(os.open(path("a"), os.O_WRONLY | os.O_APPEND), 13)
    at(os.open(path("gone"), os.O_RDWR | os.O_CREAT, 0o600), 14)
    os.write(14, b"deleted bytes")
    at(os.open(path("gone"), os.O_RDONLY), 15)
    os.lseek(15, 8, 0)
    os.unlink(path("gone"))
    at(os.open(path("holes"), os.O_RDWR | os.O_CREAT, 0o600), 26)  # with nothing at its end
    os.pwrite(26, b"then nothing", 5000)
    os.ftruncate(26, 1 << 20)
    os.unlink(path("holes"))
    os.mkdir(path("d"))
    at(os.open(path("d"), os.O_RDONLY | os.O_DIRECTORY), 16)
    at(os.open(path("a"), os.O_PATH), 17)
    at(os.open("/dev/zero", os.O_RDWR), 18)
    at(os.open("/dev/urandom", os.O_RDONLY), 19)
    os.symlink("a", path("l"))
    at(os.open(path("l"), os.O_PATH | os.O_NOFOLLOW), 20)
    os.mkdir(path("rd"))
    at(os.open(path("rd"), os.O_RDONLY), 21)
    os.rmdir(path("rd"))
    at(os.open("/proc/self/status", os.O_RDONLY), 22)
    os.dup2(22, 23)
    at(os.open("/proc/sys/kernel/ostype", os.O_RDONLY), 24)
    at(os.open(DIR, os.O_TMPFILE | os.O_RDWR, 0o600), 25)
    os.write(25, b"nameless")
    for n, name in ((30, "flock"), (31, "posix"), (32, "ofd")):
        at(os.open(path(name), os.O_RDWR | os.O_CREAT, 0o600), n)
    fcntl.flock(30, fcntl.LOCK_EX)
    fcntl.lockf(31, fcntl.LOCK_EX, 10, 100)
    fcntl.lockf(31, fcntl.LOCK_SH, 5, 300)
    fcntl.fcntl(32, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 7, 3, 0))  # F_OFD_SETLK


def held(name, start=0, length=0):
    """Whether somebody else's lock stands in the way, asked by a child."""
    pid = os.fork()
    if pid == 0:
        fd = os.open(path(name), os.O_RDWR)
        try:
            if name == "flock":
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def verify():
    eq(os.fstat(26).st_size, 1 << 20, "the size of a deleted file")
    eq(os.pread(26, 20, 4998), b"\0\0then nothing" + bytes(6), "a deleted file with holes")
    eq(os.read(11, 3), b" wo", "offset")
    eq(os.read(10, 3), b"rld", "shared offset")
    eq(os.read(12, 5), b"hello", "own offset")
    eq(os.get_inheritable(12), False, "close-on-exec")
    eq(os.get_inheritable(10), True, "close-on-exec")
    os.write(13, b"!")
    eq(os.pread(10, 100, 0), b"hello world!", "append")
    eq(flags(13) & (os.O_ACCMODE | os.O_APPEND), os.O_WRONLY | os.O_APPEND, "flags")
    eq(os.pread(14, 100, 0), b"deleted bytes", "deleted")
    eq(os.lseek(14, 0, 1), 13, "offset of the deleted one")
    eq(os.read(15, 100), b"bytes", "second opening of the deleted one")
    os.pwrite(14, b"D", 0)
    eq(os.pread(15, 1, 0), b"D", "one inode")
    eq(os.fstat(14).st_nlink, 0, "links of the deleted one")
    eq(stat.S_ISDIR(os.fstat(16).st_mode), True, "directory")
    eq(link(16), path("d"))
    eq(flags(17) & os.O_PATH, os.O_PATH, "O_PATH")
    eq(os.read(18, 2), b"\0\0", "zero")
    eq(len(os.read(19, 8)), 8, "urandom")
    eq(stat.S_ISLNK(os.fstat(20).st_mode), True, "a link itself")
    eq(os.fstat(21).st_nlink, 0, "a removed directory")
    eq(os.listdir(21), [], "a removed directory")
    eq(os.pread(22, 8192, 0).split(b"\nPid:\t")[1].split()[0], str(os.getpid()).encode(), "/proc/self/status")
    eq(os.read(23, 5), b"Name:", "/proc/self/status")
    eq(os.read(24, 100), b"Linux\n", "ostype")
    eq(os.pread(25, 100, 0), b"nameless", "O_TMPFILE")
    eq(held("flock"), True, "flock")
    eq(held("posix", 100, 10), True, "POSIX lock")
    eq(held("posix", 110, 10), False, "beyond the POSIX lock")
    eq(held("posix", 300, 5), True, "shared POSIX lock")
    eq(held("ofd", 7, 3), True, "OFD lock")
    eq(held("ofd", 10, 3), False, "beyond the OFD lock")
    for fd in (10, 11, 12, 13):
        eq(link(fd), path("a"))


main(setup, verify)
