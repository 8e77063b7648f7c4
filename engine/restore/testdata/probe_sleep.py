import ctypes, os, select, signal, struct, threading, time
from probe import *

# Calls with a time-out must end when they would have, and never with EINTR.
libc = ctypes.CDLL(None, use_errno=True)
LONG = 2.5
done = {}


class timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


def ts(t=LONG):
    return timespec(int(t), int(t % 1 * 1e9))


def syscall(*args):
    r = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return r if r >= 0 else -ctypes.get_errno()


def nanosleep():
    t = ts()
    r = syscall(35, ctypes.byref(t), ctypes.byref(timespec()))
    eq((t.sec, t.nsec), (2, 500000000), "the request")
    return r


def clock_nanosleep():
    return syscall(230, 1, 0, ctypes.byref(ts()), None)


def clock_nanosleep_abs():
    return syscall(230, 1, 1, ctypes.byref(ts(time.monotonic() + LONG)), None)


def poll():
    return syscall(7, None, 0, int(LONG * 1000))


def ppoll():
    return syscall(271, None, 0, ctypes.byref(ts()), None, 8)


def do_select():
    tv = timespec(2, 500000)
    return syscall(23, 0, None, None, None, ctypes.byref(tv))


def epoll_wait():
    e = select.epoll()
    ev = ctypes.create_string_buffer(12)
    return syscall(232, e.fileno(), ev, 1, int(LONG * 1000))


def epoll_pwait2():
    e = select.epoll()
    ev = ctypes.create_string_buffer(12)
    return syscall(441, e.fileno(), ev, 1, ctypes.byref(ts()), None, 8)


def futex():
    word = ctypes.c_uint32(7)
    return syscall(202, ctypes.byref(word), 0, 7, ctypes.byref(ts()), None, 0)  # ETIMEDOUT


def sigtimedwait():
    mask = ctypes.c_uint64(1 << (signal.SIGUSR2 - 1))
    return syscall(128, ctypes.byref(mask), None, ctypes.byref(ts()), 8)  # EAGAIN


CALLS = {nanosleep: 0, clock_nanosleep: 0, clock_nanosleep_abs: 0, poll: 0, ppoll: 0, do_select: 0, epoll_wait: 0,
         epoll_pwait2: 0, futex: -110, sigtimedwait: -11}


def run(call):
    begin = time.monotonic()
    try:
        done[call] = call(), time.monotonic() - begin
    except BaseException as e:
        done[call] = e, 0


def setup():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    for c in CALLS:
        threading.Thread(target=run, args=(c,), daemon=True).start()
    time.sleep(0.2)


def verify():
    end = time.monotonic() + 10
    while len(done) < len(CALLS) and time.monotonic() < end:
        time.sleep(0.01)
    wrong = []
    # On a busy machine the standing still may outlast the sleep; then the one
    # with an absolute end, which the kernel takes care of by itself, is the measure.
    end = max(LONG, done[clock_nanosleep_abs][1]) + 0.3
    for c, want in CALLS.items():
        got, took = done.get(c, ("nothing", 0))
        if got != want or not LONG - 0.02 < took < end:
            wrong.append(f"{c.__name__}: returned {got} (wanted {want}) after {took:.3f}")
    if wrong:
        raise AssertionError("\n".join(wrong))


main(setup, verify)
