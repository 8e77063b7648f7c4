import ctypes, os, resource, signal, struct, threading, time
from probe import *

libc = ctypes.CDLL(None, use_errno=True)
caught = []
beats = []


class itimerspec(ctypes.Structure):
    _fields_ = [("interval", ctypes.c_long), ("interval_ns", ctypes.c_long), ("value", ctypes.c_long), ("value_ns", ctypes.c_long)]


def timer(clock, signo, value, interval=0.0):
    event = ctypes.create_string_buffer(64)
    struct.pack_into("Qii", event, 0, 4242, signo, 0)
    t = ctypes.c_int(-1)
    eq(libc.syscall(222, clock, event, ctypes.byref(t)), 0, "timer_create")
    spec = itimerspec(int(interval), int(interval % 1 * 1e9), int(value), int(value % 1 * 1e9))
    eq(libc.syscall(223, t.value, 0, ctypes.byref(spec), None), 0, "timer_settime")
    return t.value


def left(t):
    spec = itimerspec()
    eq(libc.syscall(224, t, ctypes.byref(spec)), 0, "timer_gettime")
    return spec.value + spec.value_ns / 1e9, spec.interval + spec.interval_ns / 1e9


def setup():
    global timers, set_at, rt
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTRAP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, lambda *a: caught.append("usr2"))
    signal.signal(signal.SIGALRM, lambda *a: beats.append(time.monotonic()))
    signal.siginterrupt(signal.SIGUSR2, False)
    rt = signal.SIGRTMIN + 3
    signal.signal(rt, lambda *a: caught.append("rt"))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, rt, signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR2)
    for _ in range(3):
        os.kill(os.getpid(), rt)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1000, 3)
    set_at = time.monotonic()
    signal.signal(signal.SIGRTMIN + 5, lambda *a: caught.append("timer"))
    throwaway = timer(1, signal.SIGRTMIN + 6, 500)
    timers = [timer(1, signal.SIGRTMIN + 6, 500, 7.5), timer(0, signal.SIGRTMIN + 6, 600), timer(7, signal.SIGRTMIN + 6, 700),
              timer(1, signal.SIGRTMIN + 5, 0.4)]
    eq(libc.syscall(226, throwaway), 0, "timer_delete")
    libc.prctl(1, signal.SIGWINCH, 0, 0, 0)  # PR_SET_PDEATHSIG
    libc.prctl(29, 123456, 0, 0, 0)  # PR_SET_TIMERSLACK
    libc.prctl(15, b"probe name", 0, 0, 0)
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE
    resource.setrlimit(resource.RLIMIT_CORE, (0, 4096))
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400))
    os.umask(0o027)
    global nice
    nice = os.nice(3)
    os.chdir("/usr/lib")
    libc.personality(0x0040000)  # ADDR_NO_RANDOMIZE
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS


def verify():
    eq(signal.getsignal(signal.SIGHUP), signal.SIG_IGN, "SIGHUP")
    status = dict(l.split(":", 1) for l in open("/proc/self/status"))
    ignored = int(status["SigIgn"], 16)
    for s in (signal.SIGHUP, signal.SIGTRAP):
        eq(bool(ignored & 1 << (s - 1)), True, f"{s!r} ignored")
    eq(signal.sigpending(), {signal.SIGUSR2, signal.SIGUSR1, rt}, "pending")
    eq(int(status["SigPnd"], 16) & 1 << (signal.SIGUSR1 - 1) != 0, True, "USR1 of the thread")
    info = signal.sigtimedwait([signal.SIGUSR1], 0)
    eq((info.si_pid, info.si_uid), (os.getpid(), os.getuid()), "USR1's sender")
    for _ in range(2):  # they queue
        eq(signal.sigtimedwait([rt], 0).si_pid, os.getpid(), "a real-time signal")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2, rt])
    eq(sorted(x for x in caught if x != "timer"), ["rt", "usr2"], "caught")
    end = time.monotonic() + 2
    while "timer" not in caught and time.monotonic() < end:
        time.sleep(0.01)
    eq(caught.count("timer"), 1, "timer fired")
    n = len(beats)
    while len(beats) < n + 5 and time.monotonic() < end:
        time.sleep(0.01)
    eq(len(beats) >= n + 5, True, "SIGALRM goes on")
    left_virtual, every = signal.getitimer(signal.ITIMER_VIRTUAL)
    eq((990 < left_virtual <= 1001, every), (True, 3.0), "ITIMER_VIRTUAL")
    for t, value, every in zip(timers, (500, 600, 700), (7.5, 0, 0)):
        v, i = left(t)
        elapsed = time.monotonic() - set_at
        eq((abs(value - v - elapsed) < 0.3, i), (True, every), f"timer {t}: {v} of {value} after {elapsed}")
    out = ctypes.c_int()
    libc.prctl(2, ctypes.byref(out), 0, 0, 0)
    eq(out.value, signal.SIGWINCH, "death signal")
    eq(libc.prctl(30, 0, 0, 0, 0), 123456, "timer slack")
    name = ctypes.create_string_buffer(16)
    libc.prctl(16, name, 0, 0, 0)
    eq(name.value, b"probe name", "name")
    libc.prctl(37, ctypes.byref(out), 0, 0, 0)
    eq(out.value, 1, "reaper")
    eq(libc.prctl(42, 0, 0, 0, 0), 1, "huge pages")
    eq(libc.prctl(39, 0, 0, 0, 0), 1, "no new privileges")
    eq(resource.getrlimit(resource.RLIMIT_CORE), (0, 4096), "core")
    eq(resource.getrlimit(resource.RLIMIT_NOFILE), (300, 400), "nofile")
    eq(os.umask(0), 0o027, "umask")
    eq(os.nice(0), nice, "nice")
    eq(os.getcwd(), "/usr/lib", "directory")
    eq(libc.personality(0xffffffff), 0x0040000, "personality")
    eq(int(status["CapEff"], 16), 0, "capabilities")
    eq(int(status["CapBnd"], 16), 0, "capability bound")
    eq(os.readlink("/proc/self/exe"), os.path.realpath("/usr/bin/python3"), "exe")
    eq(open("/proc/self/cmdline", "rb").read().split(b"\0")[2], b"both", "cmdline")


main(setup, verify)
