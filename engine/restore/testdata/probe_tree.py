import os, signal, time
from probe import *

# A tree with sessions, groups, orphans, zombies and stopped processes.


def ids(pid):
    s = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return s[0], int(s[1]), int(s[2]), int(s[3])  # state, parent, group, session


def tell(w, *what):
    os.write(w, (" ".join(str(x) for x in what) + "\n").encode())


def wait_forever():
    while True:
        signal.pause()


def setup():
    global before, kids, dead, killed, stopped
    r, w = os.pipe()
    kids = []

    def spawn(f):
        pid = os.fork()
        if pid == 0:
            try:
                f()
                wait_forever()
            finally:
                os._exit(9)
        return pid

    def daemon():  # double fork: an orphan of a session whose leader is gone
        os.setsid()
        pid = os.fork()
        if pid:
            os._exit(0)
        tell(w, os.getpid())

    def leader():  # a session with two groups
        os.setsid()
        tell(w, os.getpid())
        for group in range(2):
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, 0)
                sub = os.fork()
                tell(w, os.getpid())
                if group == 1 and sub:  # this group's leader ends
                    os._exit(0)
                wait_forever()
            if group == 1:
                os.waitpid(pid, 0)

    d = spawn(daemon)
    os.waitpid(d, 0)
    spawn(leader)
    dead = spawn(lambda: os._exit(37))
    killed = spawn(lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped = spawn(lambda: os.kill(os.getpid(), signal.SIGSTOP))
    os.waitpid(stopped, os.WUNTRACED)
    got = b""
    while got.count(b"\n") < 6:
        got += os.read(r, 4096)
    pids = [int(x) for x in got.split()]
    os.close(r)
    os.close(w)
    time.sleep(0.1)
    pids = [p for p in pids if os.path.exists(f"/proc/{p}")]
    before = {p: ids(p) for p in [os.getpid(), dead, killed, stopped] + pids}
    eq(len(before), 9, f"processes {before}")
    eq(before[dead][0] + before[killed][0] + before[stopped][0], "ZZT", "states")


def verify():
    for pid, was in before.items():
        now, end = ids(pid), time.monotonic() + 10
        while now[0] == "R" and was[0] == "S" and pid != os.getpid() and time.monotonic() < end:
            time.sleep(0.01)  # on its way back to sleep, on a busy machine
            now = ids(pid)
        if pid != os.getpid():
            eq(now, was, f"process {pid}")
        eq(now[1:], was[1:], f"process {pid}")
    eq(os.waitstatus_to_exitcode(os.waitpid(dead, 0)[1]), 37, "exit status")
    eq(os.WTERMSIG(os.waitpid(killed, 0)[1]), signal.SIGTERM, "signal")
    os.kill(stopped, signal.SIGCONT)
    eq(os.WIFCONTINUED(os.waitpid(stopped, os.WCONTINUED)[1]), True, "continues")
    me = os.getpid()
    for pid in before:
        if pid not in (me, dead, killed):
            os.kill(pid, signal.SIGKILL)
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    eq(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 3, "a new child")


main(setup, verify)
