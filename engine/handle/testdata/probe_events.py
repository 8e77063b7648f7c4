import ctypes, fcntl, os, select, signal, struct, time
from probe import *

libc = ctypes.CDLL(None, use_errno=True)


def timer(number, clock, value, interval=0.0, abstime=0):
    fd = libc.timerfd_create(clock, os.O_NONBLOCK)
    at(fd, number)
    spec = struct.pack("qqqq", int(interval), int(interval % 1 * 1e9), int(value), int(value % 1 * 1e9))
    eq(libc.timerfd_settime(number, abstime, spec, None), 0, "timerfd_settime")


def count(fd):
    return struct.unpack("Q", os.read(fd, 8))[0]


def setup():
    at(os.eventfd(5, 0), 10)
    at(os.eventfd(3, os.EFD_SEMAPHORE | os.EFD_NONBLOCK), 11)
    at(os.eventfd(0, 0), 12)
    os.eventfd_write(12, (1 << 40) + 7)

    timer(13, time.CLOCK_MONOTONIC, 0.001)  # expired and not read
    timer(14, time.CLOCK_MONOTONIC, 0.001, 0.02)  # many times
    timer(15, time.CLOCK_MONOTONIC, 1000, 7.5)
    timer(16, time.CLOCK_REALTIME, 500)
    timer(17, time.CLOCK_REALTIME, int(time.time()) + 600, 0, 1)
    timer(18, time.CLOCK_BOOTTIME, 900)
    timer(19, time.CLOCK_MONOTONIC, 0.3)  # fires later
    time.sleep(0.1)

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    mask = struct.pack("Q", 1 << (signal.SIGUSR2 - 1) | 1 << (40 - 1))
    at(libc.signalfd(-1, mask, os.O_NONBLOCK), 20)

    fd = at(os.memfd_create("notes", os.MFD_ALLOW_SEALING), 21)
    os.write(fd, b"memory file")
    os.lseek(fd, 3, 0)
    os.fchmod(fd, 0o640)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW)
    at(os.open("/proc/self/fd/21", os.O_RDONLY), 22)

    r, w = os.pipe()
    at(r, 30), at(w, 31)
    ep = select.epoll()
    at(os.dup(ep.fileno()), 40, False)
    ep.close()
    ep = select.epoll.fromfd(40)
    ep.register(30, select.EPOLLIN)
    ep.register(10, select.EPOLLIN | select.EPOLLET)
    os.dup2(31, 33)  # an entry whose descriptor is closed, the file still open
    ep.register(33, select.EPOLLOUT)
    os.close(33)
    os.dup2(30, 34)  # an entry whose number has another use by now
    ep.register(34, select.EPOLLIN)
    os.close(34)
    at(os.open("/dev/null", os.O_RDONLY), 34)
    inner = select.epoll()
    at(os.dup(inner.fileno()), 41)
    inner.close()
    inner = select.epoll.fromfd(41)
    inner.register(11, select.EPOLLIN)
    ep.register(41, select.EPOLLIN)
    globals()["keep"] = (ep, inner)


def left(fd):
    out = ctypes.create_string_buffer(32)
    eq(libc.timerfd_gettime(fd, out), 0, "timerfd_gettime")
    a, b, c, d = struct.unpack("qqqq", out.raw)
    return a + b / 1e9, c + d / 1e9


def verify():
    ep = select.epoll.fromfd(40)
    got = dict(ep.poll(0, 16))
    eq(got, {10: select.EPOLLIN, 33: select.EPOLLOUT, 41: select.EPOLLIN}, "epoll")
    eq(os.eventfd_read(10), 5, "eventfd")
    eq([os.eventfd_read(11) for _ in range(3)], [1, 1, 1], "semaphore")
    try:
        os.eventfd_read(11)
        raise AssertionError("a fourth token")
    except BlockingIOError:
        pass
    eq(os.eventfd_read(12), (1 << 40) + 7, "large count")
    os.write(31, b"x")
    got = dict(ep.poll(0, 16))
    eq(got, {30: select.EPOLLIN, 33: select.EPOLLOUT, 34: select.EPOLLIN}, "epoll after a write")
    ep.unregister(30)  # the number and the file must agree
    eq(os.get_inheritable(40), False, "close-on-exec")

    eq(count(13), 1, "expired timer")
    n = count(14)
    if n < 3:
        raise AssertionError(f"interval timer: {n} ticks")
    eq(left(14)[0], 0.02, "interval")
    for fd, interval, low, high in ((15, 7.5, 900, 1000), (16, 0, 400, 500), (17, 0, 500, 600), (18, 0, 800, 900)):
        i, v = left(fd)
        eq(i, interval, f"interval of {fd}")
        if not low < v <= high:
            raise AssertionError(f"timer {fd} has {v} left")
    select.select([19], [], [], 5)
    eq(count(19), 1, "later timer")

    os.kill(os.getpid(), signal.SIGUSR2)
    eq(struct.unpack_from("I", os.read(20, 128))[0], signal.SIGUSR2, "signalfd")

    eq(os.read(21, 100), b"ory file", "memfd offset")
    eq(os.read(22, 100), b"memory file", "second opening of the memfd")
    eq(fcntl.fcntl(21, fcntl.F_GET_SEALS), fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW, "seals")
    eq(os.fstat(21).st_mode & 0o777, 0o640, "mode of the memfd")
    eq(link(21), "/memfd:notes (deleted)")


if sys.argv[1] == "verify":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
main(setup, verify)
