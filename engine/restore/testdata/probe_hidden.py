import ctypes, threading, time
from probe import *

# A program that hides itself from its own user, as keepassxc and ssh-agent do,
# with threads that wait with and without a time-out.
libc = ctypes.CDLL(None, use_errno=True)
SET, GET = 4, 3


def setup():
    global secret, gate, woken, late
    secret, woken = os.urandom(1 << 20), []
    gate = threading.Event()
    threading.Thread(target=lambda: woken.append(gate.wait()), daemon=True).start()
    late = threading.Thread(target=time.sleep, args=(1,), daemon=True)
    late.start()
    globals()["digest"] = hash(secret)
    eq(libc.prctl(SET, 0, 0, 0, 0), 0, "hiding")


def verify():
    eq(libc.prctl(GET, 0, 0, 0, 0), 0, "still hidden")
    eq(hash(bytes(bytearray(secret))), digest, "memory")
    gate.set()
    late.join(10)
    eq(late.is_alive(), False, "the sleeper")
    for _ in range(1000):
        if woken:
            break
        time.sleep(0.005)
    eq(woken, [True], "the waiter")


main(setup, verify)
