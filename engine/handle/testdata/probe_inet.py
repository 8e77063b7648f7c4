import ctypes, fcntl, os, select, socket, struct, time
from probe import *

LO = "127.0.0.1"


def own_network():
    """For tests outside a capsule: addresses of two probes must not meet."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000 | 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
    s.close()


def sock(fd):
    return socket.socket(fileno=os.dup(fd))


def keep(s, number):
    return at(s.detach(), number)


def serve(number, port, domain=socket.AF_INET, host=LO, backlog=7, dual=False):
    s = socket.socket(domain, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if domain == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
    s.bind((host, port))
    s.listen(backlog)
    keep(s, number)


def call(number, port, domain=socket.AF_INET, host=LO):
    s = socket.socket(domain, socket.SOCK_STREAM)
    s.connect((host, port))
    keep(s, number)


def take(listener, number):
    l = sock(listener)
    c, _ = l.accept()
    l.close()
    keep(c, number)


def setup():
    serve(10, 4001)
    call(11, 4001)
    take(10, 12)
    os.write(11, b"request")
    os.write(12, b"answer")
    s = sock(11)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
    s.close()
    os.set_blocking(12, False)
    call(13, 4001)  # waits to be accepted
    call(14, 4001)
    take(10, 15)  # 13's
    s = sock(15)
    s.sendall(b"bye")
    s.close()
    os.close(15)  # the server has closed
    call(16, 4001)
    take(10, 17)  # 14's
    take(10, 18)  # 16's
    s = sock(16)
    s.shutdown(socket.SHUT_WR)
    s.close()
    call(19, 4001)  # waits to be accepted

    serve(20, 4002, socket.AF_INET6, "::", 3, True)
    call(21, 4002)
    take(20, 22)  # IPv4 in IPv6
    call(23, 4002, socket.AF_INET6, "::1")
    take(20, 24)
    os.write(21, b"four")
    os.write(23, b"six")

    serve(25, 4003)
    call(26, 4003)
    take(25, 27)
    os.close(25)  # the listener is gone
    os.set_blocking(26, False)
    n = 0
    block = bytes(range(256)) * 256
    try:  # more than the other end takes
        while n < 1 << 20:
            n += os.write(26, block[: min(len(block), (1 << 20) - n)])
    except BlockingIOError:
        pass
    with open(DIR + "/count", "w") as f:
        f.write(str(n))

    # As much as a connection comes to hold that was busy for long: more than SO_RCVBUF can give. Then one whose
    # writer has a large buffer.
    for port, writer, reader, option, name in (
        (4005, 36, 37, socket.SO_RCVLOWAT, "/much"), (4007, 39, 40, socket.SO_SNDBUF, "/sent")):
        serve(25, port)
        call(writer, port)
        take(25, reader)
        os.close(25)
        if option == socket.SO_RCVLOWAT:
            s = sock(reader)
            s.setsockopt(socket.SOL_SOCKET, option, 1 << 30)
            s.setsockopt(socket.SOL_SOCKET, option, 1)
        else:
            s = sock(writer)
            s.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        s.close()
        os.set_blocking(writer, False)
        n = 0
        patience = 20
        while patience and n < 44 << 20:
            try:
                n += os.write(writer, block[n % 256 :])
            except BlockingIOError:
                time.sleep(0.01)
                patience -= 1
        with open(DIR + name, "w") as f:
            f.write(str(n))
    with open("/proc/sys/net/ipv4/tcp_rmem") as f, open(DIR + "/much") as g:
        eq(int(g.read()) > int(f.read().split()[2]) // 2, True, "much fits into a large buffer")

    # The server has closed, and its kernel still has most of the answer.
    serve(25, 4006)
    call(38, 4006)
    s = socket.socket(fileno=25)
    c, _ = s.accept()
    s.close()
    c.setblocking(False)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    n = 0
    try:
        while n < 3 << 20:
            n += c.send(block[n % 256 :])
    except BlockingIOError:
        pass
    c.close()
    with open(DIR + "/answer", "w") as f:
        f.write(str(n))

    keep(socket.socket(socket.AF_INET, socket.SOCK_STREAM), 28)
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.bind((LO, 4004))
    keep(s, 29)

    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.bind((LO, 5001))
    u.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    v.bind((LO, 5002))
    v.connect((LO, 5001))
    w = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    w.bind(("::", 5003))
    for m in (b"d1", b"", b"d3"):
        v.send(m)
    x = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    x.bind((LO, 5004))
    x.sendto(b"from a closed one", (LO, 5001))
    x.close()
    u.sendto(b"to six", (LO, 5003))
    keep(u, 30), keep(v, 31), keep(w, 32)
    keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 33)

    n = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)  # NETLINK_ROUTE
    n.bind((4711, 1 | 0x10))  # links and IPv4 addresses
    n.setsockopt(270, 1, 34)  # SOL_NETLINK, NETLINK_ADD_MEMBERSHIP: a group that no address can say
    n.setsockopt(270, 11, 1)  # NETLINK_EXT_ACK
    n.setblocking(False)
    keep(n, 34)
    keep(socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0), 35)  # not bound


def verify():
    eq(os.read(12, 100), b"request", "request")
    eq(os.read(11, 100), b"answer", "answer")
    a, b = sock(11), sock(12)
    eq((a.getpeername(), b.getsockname()), ((LO, 4001), (LO, 4001)), "the server's address")
    eq(a.getsockname(), b.getpeername(), "the client's address")
    eq(a.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1, "TCP_NODELAY")
    eq(a.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 77, "TCP_KEEPIDLE")
    eq(a.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1, "SO_KEEPALIVE")
    eq(a.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR), 0, "SO_REUSEADDR of the client")
    eq(sock(10).getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR), 1, "SO_REUSEADDR of the listener")
    eq((flags(11) & os.O_NONBLOCK, flags(12) & os.O_NONBLOCK), (0, os.O_NONBLOCK), "O_NONBLOCK")
    a.close(), b.close()
    os.write(11, b"more")
    select.select([12], [], [], 5)
    eq(os.read(12, 100), b"more", "more")
    eq(os.read(13, 100), b"bye", "last words")
    eq(os.read(13, 100), b"", "the server has closed")
    eq(os.read(18, 100), b"", "the client has shut down")
    os.write(18, b"half open")
    eq(os.read(16, 100), b"half open", "half open")
    os.write(14, b"fourteen")
    eq(os.read(17, 100), b"fourteen", "second connection")
    take(10, 60)
    os.write(19, b"accepted at last")
    eq(os.read(60, 100), b"accepted at last", "a caller that waited")
    call(61, 4001)
    take(10, 62)

    eq(os.read(22, 100), b"four", "IPv4 in IPv6")
    eq(os.read(24, 100), b"six", "IPv6")
    eq(sock(22).getpeername()[0], "::ffff:127.0.0.1", "IPv4 in IPv6")
    call(63, 4002)
    take(20, 64)

    for writer, reader, count in ((26, 27, "/count"), (36, 37, "/much"), (39, 40, "/sent")):
        n = int(open(DIR + count).read())
        got = bytearray()
        while len(got) < n:
            select.select([reader], [], [], 5)
            part = os.read(reader, 1 << 20)
            if not part:
                break
            got += part
        eq(len(got), n, "bytes under way")
        eq(got == (bytes(range(256)) * (n // 256 + 1))[:n], True, "bytes under way")
        os.write(writer, b"!")
        select.select([reader], [], [], 5)
        eq(os.read(reader, 10), b"!", "after them")
    n = int(open(DIR + "/answer").read())
    got = bytearray()
    while part := os.read(38, 1 << 20):
        got += part
    eq(len(got), n, "bytes of one who is gone")
    eq(got == (bytes(range(256)) * (n // 256 + 1))[:n], True, "bytes of one who is gone")
    eq(sock(37).getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT), 1, "SO_RCVLOWAT")

    eq(sock(29).getsockname(), (LO, 4004), "bound")
    s = sock(28)
    s.connect((LO, 4001))
    s.close()

    u, v, w = sock(30), sock(31), sock(32)
    eq([u.recvfrom(100) for _ in range(4)],
       [(b"d1", (LO, 5002)), (b"", (LO, 5002)), (b"d3", (LO, 5002)), (b"from a closed one", (LO, 5004))], "datagrams")
    eq(w.recvfrom(100)[0], b"to six", "a datagram to IPv6")
    eq(u.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST), 1, "SO_BROADCAST")
    v.send(b"still connected")
    eq(u.recv(100), b"still connected", "connected")

    n = sock(34)
    eq(n.getsockname(), (4711, 1 | 0x10), "port and groups of a netlink socket")
    eq(n.getsockopt(270, 11), 1, "NETLINK_EXT_ACK")
    groups = n.getsockopt(270, 9, 64)  # NETLINK_LIST_MEMBERSHIPS
    eq(groups[33 // 8] & 1 << 33 % 8, 1 << 33 % 8, "group 34")
    eq(flags(34) & os.O_NONBLOCK, os.O_NONBLOCK, "O_NONBLOCK of a netlink socket")
    ask = struct.pack("=IHHIIB3x", 20, 18, 0x301, 7, 0, 0)
    m = sock(35)
    m.send(ask)  # RTM_GETLINK, a dump
    eq(b"lo\0" in m.recv(65536), True, "the links")
    eq(m.getsockname()[0] != 0, True, "a port of its own")


if os.environ.get("PROBE_NETWORK"):
    own_network()
main(setup, verify)
