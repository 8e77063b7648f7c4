import fcntl, os, select, stat
from probe import *

SETSZ, GETSZ = 1031, 1032


def setup():
    r, w = os.pipe()
    at(r, 10), at(w, 11)
    os.write(11, b"in the pipe")
    fcntl.fcntl(11, SETSZ, 1 << 18)
    os.dup2(10, 12)
    os.set_blocking(11, False)
    r, w = os.pipe2(os.O_DIRECT)  # packets
    at(r, 13), at(w, 14)
    os.write(14, b"one")
    os.write(14, b"three")
    r, w = os.pipe()  # nobody writes any more
    os.write(w, b"last words")
    at(r, 15)
    os.close(w)
    r, w = os.pipe()  # nobody reads any more
    at(w, 16)
    os.close(r)
    r, w = os.pipe()  # full
    at(r, 17), at(w, 18)
    os.set_blocking(18, False)
    n = 0
    try:
        while True:
            n += os.write(18, b"x" * 65536)
    except BlockingIOError:
        pass
    r, w = os.pipe()
    at(r, 19), at(w, 20)
    at(os.open("/proc/self/fd/20", os.O_WRONLY | os.O_NONBLOCK), 21)  # another opening of one end
    at(os.open("/proc/self/fd/19", os.O_RDWR), 22)  # both ends in one
    os.write(21, b"abc")
    os.mkfifo(DIR + "/fifo", 0o600)
    at(os.open(DIR + "/fifo", os.O_RDONLY | os.O_NONBLOCK), 23)
    at(os.open(DIR + "/fifo", os.O_WRONLY), 24)
    os.write(24, b"named")


def verify():
    eq(os.read(12, 100), b"in the pipe", "content")
    eq(fcntl.fcntl(10, GETSZ), 1 << 18, "size")
    eq(flags(11) & os.O_NONBLOCK, os.O_NONBLOCK, "O_NONBLOCK of the writer")
    eq(flags(10) & os.O_NONBLOCK, 0, "O_NONBLOCK of the reader")
    os.write(11, b"more")
    eq(os.read(10, 100), b"more", "more")
    eq(os.read(13, 100), b"one", "packet 1")
    eq(os.read(13, 100), b"three", "packet 2")
    eq(flags(14) & os.O_DIRECT, os.O_DIRECT, "packet mode")
    eq(os.read(15, 100), b"last words", "content without a writer")
    eq(os.read(15, 100), b"", "end of file")
    try:
        os.write(16, b"x")
        raise AssertionError("wrote to nobody")
    except BrokenPipeError:
        pass
    try:
        os.write(18, b"x")
        raise AssertionError("wrote into a full pipe")
    except BlockingIOError:
        pass
    eq(os.read(17, 1 << 20), b"x" * 65536, "full")
    eq(os.read(19, 100), b"abc", "second opening")
    os.write(22, b"def")
    eq(os.read(22, 100), b"def", "both ends in one")
    eq(flags(21) & os.O_NONBLOCK, os.O_NONBLOCK, "flags of the second opening")
    eq(flags(20) & os.O_NONBLOCK, 0, "flags of the first")
    eq(os.read(23, 100), b"named", "fifo")
    os.write(24, b"again")
    eq(os.read(23, 100), b"again", "fifo")
    eq(stat.S_ISFIFO(os.fstat(23).st_mode), True)
    eq(link(23), DIR + "/fifo")


main(setup, verify)
