import ctypes, os, select, struct
from probe import *

libc = ctypes.CDLL(None, use_errno=True)
CREATE, MODIFY, DELETE_SELF = 0x100, 0x2, 0x400


def add(fd, path, mask):
    wd = libc.inotify_add_watch(fd, path.encode(), mask)
    if wd < 0:
        raise OSError(ctypes.get_errno(), "inotify_add_watch")
    return wd


def setup():
    os.makedirs(DIR + "/w/deep/er")
    open(DIR + "/w/file", "w").close()
    os.chdir(DIR)
    at(libc.inotify_init1(os.O_NONBLOCK), 10)
    eq(add(10, DIR + "/w/deep/er", CREATE), 1)
    eq(add(10, DIR, DELETE_SELF), 2)
    eq(libc.inotify_rm_watch(10, 2), 0)
    os.read(10, 4096)  # of the removal
    eq(add(10, DIR + "/w/file", MODIFY), 3)
    at(os.pidfd_open(os.getpid()), 11)
    at(libc.epoll_create1(0), 12)
    ep = select.epoll.fromfd(12)
    ep.register(11, select.EPOLLIN)
    ep.register(10, select.EPOLLIN)
    globals()["keep"] = ep


def events(fd):
    raw, out = os.read(fd, 4096), []
    while raw:
        wd, mask, _, n = struct.unpack_from("iIII", raw)
        out.append((wd, mask, raw[16 : 16 + n].rstrip(b"\0")))
        raw = raw[16 + n :]
    return out


def verify():
    eq(select.select([10], [], [], 0)[0], [], "no events yet")
    ep = select.epoll.fromfd(12)
    eq(ep.poll(0), [], "no events yet")
    open(DIR + "/w/deep/er/new", "w").close()
    with open(DIR + "/w/file", "a") as f:
        f.write("x")
    eq(ep.poll(5), [(10, select.EPOLLIN)], "epoll")
    eq(events(10), [(1, CREATE, b"new"), (3, MODIFY, b"")], "events")
    eq(add(10, DIR, CREATE), 4, "the next watch")
    with open("/proc/self/fdinfo/11") as f:
        pid = [l.split()[1] for l in f if l.startswith("Pid:")][0]
    eq(int(pid), os.getpid(), "pidfd")
    ep.modify(11, select.EPOLLIN | select.EPOLLONESHOT)


main(setup, verify)
