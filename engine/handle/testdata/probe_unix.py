import array, fcntl, os, socket, stat, struct, termios
from probe import *

S, D, Q = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET


def pair(a, b, kind):
    x, y = socket.socketpair(socket.AF_UNIX, kind)
    at(x.detach(), a), at(y.detach(), b)


def sock(fd):
    return socket.socket(fileno=os.dup(fd))


def new(number, kind, name=None, listen=None):
    s = socket.socket(socket.AF_UNIX, kind)
    if name is not None:
        s.bind(name)
    if listen is not None:
        s.listen(listen)
    at(s.detach(), number)


def call(number, kind, name, mine=None):
    s = socket.socket(socket.AF_UNIX, kind)
    if mine is not None:
        s.bind(mine)
    s.connect(name)
    at(s.detach(), number)


def take(listener, number):
    l = sock(listener)
    c, _ = l.accept()
    l.close()
    at(c.detach(), number)


def send(fd, data, fds=()):
    s = sock(fd)
    s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
    s.close()


def receive(fd, size=1 << 20):
    s = sock(fd)
    data, anc, _, address = s.recvmsg(size, 4096, socket.MSG_DONTWAIT)
    s.close()
    fds = []
    for _, _, raw in anc:
        fds += array.array("i", raw[: len(raw) // 4 * 4])
    return data, fds, address


def setup():
    pair(10, 11, S)
    send(11, b"stream ")
    send(11, b"bytes")
    send(10, b"the other way")
    pair(12, 13, D)
    for m in (b"one", b"", b"three"):
        send(13, m)
    pair(14, 15, Q)
    send(15, b"packet 1")
    send(15, b"packet 2")
    os.set_blocking(14, False)

    pair(16, 17, S)  # descriptors wait: a file of its own offset, a pipe, and a pair in a queue of a queue
    with open(DIR + "/f", "w+") as f:
        f.write("0123456789")
        f.flush()
        f.seek(4)
        r, w = os.pipe()
        os.write(w, b"in flight")
        x, y = socket.socketpair()
        y.send(b"deep")
        y2, z2 = socket.socketpair()
        z2.sendmsg([b"n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [x.fileno()]))])
        send(17, b"before")
        send(17, b"with", [f.fileno(), r, y2.fileno()])
        send(17, b"after")
        os.close(r), os.close(w)
        for s in (x, y, y2, z2):
            s.close()

    new(20, S, DIR + "/listen", 5)
    os.chmod(DIR + "/listen", 0o620)
    call(21, S, DIR + "/listen")
    take(20, 22)
    send(21, b"to the server")
    send(22, b"to the client")
    call(23, S, DIR + "/listen")  # waits to be accepted
    call(24, S, DIR + "/listen")
    take(20, 25)  # 23's
    os.close(23)  # its caller is gone

    name = "\0probe-%d" % os.getuid()
    new(30, Q, name + "-l", 3)
    call(31, Q, name + "-l", name + "-c")
    take(30, 32)
    send(32, b"abstract")

    new(33, D, name + "-d")
    new(34, D, DIR + "/dgram")
    s = sock(33)
    s.sendto(b"named sender", DIR + "/dgram")
    s.connect(DIR + "/dgram")
    s.close()
    t = socket.socket(socket.AF_UNIX, D)
    t.sendto(b"nameless sender", DIR + "/dgram")
    t.close()
    new(35, D)
    s = sock(35)
    s.connect(DIR + "/dgram")
    s.close()

    pair(40, 41, S)  # the other end is gone
    send(41, b"last words")
    os.close(41)
    pair(42, 43, S)
    s = sock(42)
    s.shutdown(socket.SHUT_WR)
    s.close()
    new(44, S)
    new(45, S, DIR + "/unlinked", 1)
    os.unlink(DIR + "/unlinked")
    os.mkdir(DIR + "/qt")
    new(49, S, DIR + "/qt/s", 1)  # as Qt does
    os.rename(DIR + "/qt/s", DIR + "/renamed")
    os.rmdir(DIR + "/qt")
    os.chdir(DIR)
    new(46, S, "relative", 1)

    s = sock(10)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50000)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 7, 0))
    s.close()
    pair(50, 51, S)  # full
    os.set_blocking(51, False)
    s = sock(51)
    try:
        while True:
            s.send(b"y" * 4096)
    except BlockingIOError:
        pass
    s.close()
    fcntl.ioctl(50, termios.FIONREAD, b"    ")


def verify():
    name = "\0probe-%d" % os.getuid()
    s = sock(10)
    eq(s.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED), 1, "SO_PASSCRED")
    eq(s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF), 100000, "SO_SNDBUF")
    eq(struct.unpack("qq", s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)), (7, 0), "SO_RCVTIMEO")
    eq(os.read(10, 100), b"stream bytes", "stream")
    eq(os.read(11, 100), b"the other way", "the other way")
    os.write(10, b"ping")
    eq(os.read(11, 100), b"ping", "still a pair")
    eq([receive(12)[0] for _ in range(3)], [b"one", b"", b"three"], "datagrams")
    eq([receive(14)[0] for _ in range(2)], [b"packet 1", b"packet 2"], "packets")
    eq((flags(14) & os.O_NONBLOCK, flags(15) & os.O_NONBLOCK), (os.O_NONBLOCK, 0), "flags")

    data, fds, _ = receive(16)
    if data == b"before":  # a message with descriptors may or may not join what is before
        data, fds, _ = receive(16)
        data = b"before" + data
    eq(data[:10], b"beforewith", "with descriptors")
    eq(len(fds), 3, "descriptors")
    eq(os.read(fds[0], 100), b"456789", "a file that waited")
    eq(os.read(fds[1], 100), b"in flight", "a pipe that waited")
    d2, fds2, _ = receive(fds[2])
    eq((d2, len(fds2)), (b"n", 1), "a socket that waited")
    eq(os.read(fds2[0], 100), b"deep", "deeper")
    rest = data[10:] or receive(16)[0]
    eq(rest, b"after", "after the descriptors")

    eq(os.read(22, 100), b"to the server", "accepted")
    eq(os.read(21, 100), b"to the client", "caller")
    eq(sock(21).getpeername(), DIR + "/listen", "whom it called")
    eq(sock(22).getsockname(), DIR + "/listen", "name of the accepted one")
    eq(os.read(25, 100), b"", "its caller is gone")
    take(20, 60)
    os.write(24, b"waited")
    eq(os.read(60, 100), b"waited", "a caller that waited")
    call(61, S, DIR + "/listen")
    take(20, 62)
    eq(stat.S_IMODE(os.stat(DIR + "/listen").st_mode), 0o620, "mode of the socket's file")

    eq(os.read(31, 100), b"abstract", "abstract")
    eq(sock(32).getpeername(), (name + "-c").encode(), "names")
    eq(sock(31).getpeername(), (name + "-l").encode(), "names")
    data, _, address = receive(34)
    eq((data, address), (b"named sender", (name + "-d").encode()), "datagram with a sender")
    eq(receive(34)[0], b"nameless sender", "datagram without")
    os.write(33, b"connected")
    eq(receive(34)[0], b"connected", "one-way connection")
    os.write(35, b"too")
    eq(receive(34)[0], b"too", "one-way connection")

    eq(os.read(40, 100), b"last words", "last words")
    eq(os.read(40, 100), b"", "end")
    eq(os.read(43, 100), b"", "shut down")
    os.write(43, b"half open")
    eq(os.read(42, 100), b"half open", "the other direction")
    eq(sock(44).getsockname(), "", "unbound")
    eq(sock(45).getsockname(), DIR + "/unlinked", "unlinked")
    eq(os.path.exists(DIR + "/unlinked"), False, "unlinked")
    eq(sock(49).getsockname(), DIR + "/qt/s", "renamed")
    eq(os.path.exists(DIR + "/qt"), False, "renamed")
    caller = socket.socket(socket.AF_UNIX, S)
    caller.connect(DIR + "/renamed")
    sock(49).accept()[0].send(b"there")
    eq(caller.recv(10), b"there", "renamed")
    eq(sock(46).getsockname(), "relative", "relative")
    eq(stat.S_ISSOCK(os.stat(DIR + "/relative").st_mode), True, "relative")
    eq(len([n for n in os.listdir(DIR) if n.startswith(".hither")]), 0, "nothing left over")
    n, s = 0, sock(50)
    s.setblocking(False)
    try:
        while True:
            n += len(s.recv(1 << 20))
    except BlockingIOError:
        pass
    if n < 4096 * 8:
        raise AssertionError(f"only {n} bytes in the full one")
    os.set_blocking(44, True)


main(setup, verify)
