"""Asks the web server beside it again and again, quickly and slowly, and checks each answer."""
import hashlib, json, os, socket, sys, threading, time, urllib.request

wrong = []
state = {"Requests": 0, "Bytes": 0, "Slow": 0}
with open("/tmp/www/blob", "rb") as f:
    blob = f.read()


def connect():
    for _ in range(1000):
        try:
            return socket.create_connection(("127.0.0.1", 8000))
        except ConnectionRefusedError:
            time.sleep(0.01)  # the server is not there yet
    raise SystemExit("no server")


connect().close()


def guarded(f):
    def run():
        try:
            f()
        except Exception as e:
            wrong.append(f"{f.__name__}: {e!r}")
    threading.Thread(target=run, daemon=True).start()


def quick():
    while True:
        got = urllib.request.urlopen("http://127.0.0.1:8000/small").read()
        if got != b"hello\n":
            wrong.append(f"small is {got!r}")
        state["Requests"] += 1


def slow():
    # So slowly that a move falls into the midst of a transfer, and so much that
    # the server is not done as soon as it is in the buffers.
    while True:
        answer = urllib.request.urlopen("http://127.0.0.1:8000/blob")
        got = bytearray()
        while part := answer.read(1_000_000):
            got += part
            state["Bytes"] += len(part)
            time.sleep(0.02)
        if got != blob:
            wrong.append(f"blob has {len(got)} bytes")
        state["Slow"] += 1


guarded(quick)
guarded(slow)
server = 0
for p in os.listdir("/proc"):
    if p.isdigit():
        with open(f"/proc/{p}/cmdline", "rb") as f:
            if b"http.server" in f.read():
                server = int(p)
for line in sys.stdin:
    print("answer", line.strip(), json.dumps({**state, "Wrong": wrong, "Server": server}), flush=True)
