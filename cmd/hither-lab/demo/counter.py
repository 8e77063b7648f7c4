"""The program that moves in `hither-lab demo`. It knows nothing of hither.

It counts in one thread and sends each number to a witness by UDP; a second thread talks to a child
process through two pipes; a third writes a file. It holds a secret that exists nowhere but in its
memory. Asked by the witness, it tells how it is.
"""
import hashlib, json, os, socket, struct, sys, threading, time

to_child, from_child = os.pipe(), os.pipe()
child = os.fork()
if child == 0:  # the child doubles numbers, for ever
    os.close(to_child[1])
    while data := os.read(to_child[0], 8):
        os.write(from_child[1], struct.pack("<Q", 2 * struct.unpack("<Q", data)[0]))
    os._exit(0)

secret = os.urandom(32)
state = {"count": 0, "talks": 0, "wrong": 0, "lines": 0, "back": 0}
log = open(os.path.expanduser("~/counter.log"), "a+", buffering=1)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
witness = (sys.argv[1], 9000)


def count():
    last = time.monotonic()
    while True:
        state["count"] += 1
        now = time.monotonic()
        state["back"] += now < last
        last = now
        try:
            sock.sendto(b"%d" % state["count"], witness)
        except OSError:
            pass  # the witness will miss this number
        time.sleep(0.001)


def talk():
    while True:
        n = state["talks"]
        os.write(to_child[1], struct.pack("<Q", n))
        state["wrong"] += struct.unpack("<Q", os.read(from_child[0], 8))[0] != 2 * n
        state["talks"] += 1
        time.sleep(0.002)


def write():
    while True:
        log.write("line %d\n" % state["lines"])
        state["lines"] += 1
        time.sleep(0.01)


threads = [threading.Thread(target=f, daemon=True) for f in (count, talk, write)]
for t in threads:
    t.start()
while True:
    question, asker = sock.recvfrom(100)
    if question == b"reveal":
        told = {"plain": secret.hex()}
    else:
        told = {"secret": hashlib.sha256(secret + question).hexdigest()}
    told.update(
        state,
        question=question.decode(),
        pid=os.getpid(),
        child=child,
        threads=[t.native_id for t in threads],
    )
    sock.sendto(json.dumps(told).encode(), asker)
