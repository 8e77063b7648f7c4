"""Sends numbers through everything that holds bytes, as fast as it goes, and checks that each comes, once and in order."""
import fcntl, json, mmap, multiprocessing, os, random, socket, sqlite3, struct, sys, threading, time, tty

over = mmap.mmap(-1, 1)  # not 0: come to an end
answers = multiprocessing.Queue()
asked = []
LAST = 0xFFFFFFFF


def process(name, work):
    """A process of its own; what work returns is its answer, None: it has none."""
    if os.fork():
        return
    try:
        answer = work()
    except BaseException as e:
        answer = f"{name}: {e!r}"
    if answer is not None:
        answers.put(answer)
        answers.close()
        answers.join_thread()
    os._exit(0)


def expect(name, work):
    asked.append(name)
    process(name, work)


def write(fd):
    def work():
        n, last = 0, False
        while not last:
            last = over[0]
            if last:
                part = struct.pack("<I", LAST)
            else:
                k = random.choice([1, 7, 64, 1000, 4000])
                part, n = struct.pack(f"<{k}I", *range(n, n + k)), n + k
            while part:
                part = part[os.write(fd, part):]
        time.sleep(1000)
    return work


def read(name, fd, pause):
    def work():
        n, rest = 0, b""
        while True:
            part = os.read(fd, random.choice([100, 5000, 200000]))
            if not part:
                return f"{name}: ends after {n}"
            rest += part
            k = len(rest) // 4
            for got in struct.unpack(f"<{k}I", rest[:4 * k]):
                if got == LAST:
                    return n
                if got != n:
                    return f"{name}: {got} instead of {n}"
                n += 1
            rest = rest[4 * k:]
            time.sleep(pause)
    return work


def stream(name, to, out, pause=0):
    process(name, write(to))
    expect(name, read(name, out, pause))


def connection(family, host):
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        a = socket.socket(family)
        a.connect(listener.getsockname())
        b, _ = listener.accept()
        return a.detach(), b.detach()


r, w = os.pipe()
stream("pipe", w, r)
os.mkfifo("/tmp/flow")
stream("fifo", os.open("/tmp/flow", os.O_RDWR), os.open("/tmp/flow", os.O_RDONLY))
stream("unix", *[s.detach() for s in socket.socketpair()], 0.001)
stream("tcp", *connection(socket.AF_INET, "127.0.0.1"))
stream("slow tcp", *connection(socket.AF_INET, "127.0.0.1"), 0.01)
stream("tcp6", *connection(socket.AF_INET6, "::1"), 0.002)
m, s = os.openpty()
tty.setraw(s)
stream("terminal's output", s, m)
m, s = os.openpty()
tty.setraw(s)
stream("terminal's input", m, s)


def packets(name, kind):
    a, b = socket.socketpair(socket.AF_UNIX, kind)

    def send():
        n = 0
        while not over[0]:
            a.send(struct.pack("<I", n) + b"x" * random.randrange(3000))
            n += 1
        a.send(struct.pack("<I", LAST))
        time.sleep(1000)

    def receive():
        n = 0
        while True:
            got, = struct.unpack("<I", b.recv(4000)[:4])
            if got != n:
                return n if got == LAST else f"{name}: {got} instead of {n}"
            n += 1

    process(name, send)
    expect(name, receive)


packets("datagrams", socket.SOCK_DGRAM)
packets("packets", socket.SOCK_SEQPACKET)


def descriptors():
    a, b = socket.socketpair()

    def send():
        n = 0
        while not over[0]:
            r, w = os.pipe()
            fcntl.fcntl(w, 1031, 4096)  # F_SETPIPE_SZ: a user may have some thousand pages in pipes
            os.write(w, struct.pack("<I", n))
            os.close(w)
            socket.send_fds(a, [b"d"], [r])
            os.close(r)
            n += 1
        socket.send_fds(a, [b"e"], [0])
        time.sleep(1000)

    def receive():
        n = 0
        while True:
            word, (fd,), _, _ = socket.recv_fds(b, 1, 1)
            if word == b"e":
                return n
            got, = struct.unpack("<I", os.read(fd, 4))
            os.close(fd)
            if got != n:
                return f"descriptors: {got} instead of {n}"
            n += 1

    process("descriptors", send)
    expect("descriptors", receive)


descriptors()


def calls():
    """Connections that are made, used and closed all the time; the server closes first."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=20)

    def serve(c):
        with c:
            data = b""
            while not data.endswith(b"\n"):
                part = c.recv(100000)
                if not part:
                    return
                data += part
            c.sendall(3 * data)

    def server():
        while True:
            c, _ = listener.accept()
            threading.Thread(target=serve, args=(c,), daemon=True).start()

    def client():
        n = 0
        while not over[0]:
            data = os.urandom(random.randrange(200000)).replace(b"\n", b"") + b"\n"
            with socket.create_connection(listener.getsockname()) as c:
                c.sendall(data)
                got = bytearray()
                while part := c.recv(100000):
                    got += part
            if got != 3 * data:
                return f"calls: {len(got)} bytes instead of three times {len(data)}"
            n += 1
        return n

    process("server", server)
    expect("calls", client)


calls()


def database(k):
    def work():
        db = sqlite3.connect("/tmp/flow.db", timeout=60)
        n = 0
        while not over[0]:
            with db:
                db.execute("insert into t values (?, ?)", (k, n))
            n += 1
        got = db.execute("select count(*), max(n) from t where k = ?", (k,)).fetchone()
        good = db.execute("pragma integrity_check").fetchone()
        return n if got == (n, n - 1) and good == ("ok",) else f"database: {got} after {n}, {good}"
    return work


with sqlite3.connect("/tmp/flow.db") as db:
    db.execute("pragma journal_mode = wal")
    db.execute("create table t(k, n)")
db.close()
for k in range(3):
    expect(f"database {k}", database(k))

shared = multiprocessing.Value("L", 0)
with open("/tmp/flow.count", "w") as f:
    f.write("0")


def counter():
    n = 0
    with open("/tmp/flow.count", "r+") as f:
        while not over[0]:
            fcntl.lockf(f, fcntl.LOCK_EX)
            f.seek(0)
            v = int(f.read())
            f.seek(0)
            f.write(str(v + 1))
            f.flush()
            fcntl.lockf(f, fcntl.LOCK_UN)
            with shared.get_lock():
                shared.value += 1
            n += 1
    return {"counted": n}


for k in range(3):
    expect(f"counter {k}", counter)

print("flows", flush=True)
end = sys.stdin.readline().strip()
over[0] = 1
wrong, counts, counted = [], [], 0
for _ in asked:
    answer = answers.get()
    if isinstance(answer, str):
        wrong.append(answer)
    elif isinstance(answer, dict):
        counted += answer["counted"]
        counts.append(answer["counted"])
    else:
        counts.append(answer)
with open("/tmp/flow.count") as f:
    if not int(f.read()) == counted == shared.value:
        wrong.append(f"counted {counted}, in memory {shared.value}")
print("answer", end, json.dumps({"Wrong": wrong, "Least": min(counts)}), flush=True)
os.killpg(0, 9)
