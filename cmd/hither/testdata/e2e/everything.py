"""Holds a bit of everything that a moved python must keep, and checks itself.

Each line on stdin is a question; the answer is one line of JSON."""
import json, os, random, signal, sys, threading, time

WORKERS = 4
wrong = []
counts = [0] * WORKERS
threads = [0] * WORKERS
lock = threading.Lock()
state = {"ticks": 0, "fired": 0, "asleep": 0.0}


def work(i):
    threads[i] = threading.get_native_id()
    mine = threading.local()
    mine.count = 0
    last = time.monotonic()
    while True:
        with lock:
            counts[i] += 1
            mine.count += 1
            if counts[i] != mine.count:
                wrong.append(f"thread {i} counted {mine.count}, not {counts[i]}")
        now = time.monotonic()
        if now < last:
            wrong.append(f"time went back by {last - now}")
        last = now
        time.sleep(0.001)


def sleeper():
    began = time.monotonic()
    time.sleep(3)
    state["asleep"] = time.monotonic() - began


def primes():
    found, n = [], 2
    while True:
        if all(n % p for p in found if p * p <= n):
            found.append(n)
            yield n
        n += 1


def tick(signum, frame):
    state["ticks"] += 1


def fire():
    state["fired"] += 1


for i in range(WORKERS):
    threading.Thread(target=work, args=(i,), daemon=True).start()
threading.Thread(target=sleeper, daemon=True).start()
once = threading.Timer(3, fire)
once.daemon = True
once.start()
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
signal.setitimer(signal.ITIMER_VIRTUAL, 5000)

random.seed(20)
drawn = [random.gauss(0, 1) for _ in range(1001)]  # an odd number: one is kept for the next call
generator = primes()
for _ in range(500):
    next(generator)
secret = os.urandom(16).hex()
ballast = {i: str(i) * 10 for i in range(20000)}
total = sum(map(len, ballast.values()))

for line in sys.stdin:
    if sum(map(len, ballast.values())) != total:
        wrong.append("the ballast changed")
    timer = line.strip() == "timer"
    print("answer", line.strip(), json.dumps({
        "secret": secret, "pid": os.getpid(), "threads": threads, "counts": counts,
        "random": [] if timer else [random.gauss(0, 1) for _ in range(2)],
        "primes": [] if timer else [next(generator) for _ in range(3)],
        "left": signal.getitimer(signal.ITIMER_VIRTUAL)[0], "wrong": wrong, **state}), flush=True)
