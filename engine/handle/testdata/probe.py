"""What the probes share. A probe sets descriptors up at fixed numbers, says
READY, waits until the file GO is there, and then judges itself: OK or FAIL.

    probe_x.py both   GO OUT   set up, wait, judge
    probe_x.py verify GO OUT   wait, judge: the descriptors come from elsewhere
"""
import fcntl, os, sys, time, traceback

OUT = sys.argv[3] if len(sys.argv) > 3 else ""
DIR = os.path.dirname(OUT)


def at(fd, number, inheritable=True):
    """Moves a descriptor to a number."""
    if fd != number:
        os.dup2(fd, number, inheritable)
        os.close(fd)
    else:
        os.set_inheritable(fd, inheritable)
    return number


def eq(got, want, what=""):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def flags(fd):
    return fcntl.fcntl(fd, fcntl.F_GETFL)


def link(fd):
    return os.readlink(f"/proc/self/fd/{fd}")


def main(setup, verify):
    mode, go, out = sys.argv[1:4]
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    log = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 256)
    try:
        if mode == "both":
            setup()
        os.write(1, b"READY\n")
        while not os.path.exists(go):
            time.sleep(0.01)
        verify()
        os.write(1, b"OK\n")
    except BaseException:
        os.write(1, ("FAIL " + traceback.format_exc()).encode())
