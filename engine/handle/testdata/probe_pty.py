import fcntl, os, pty, select, struct, termios, time, tty
from probe import *


def open_pair(m, s):
    a, b = pty.openpty()
    at(a, m), at(b, s)


def setup():
    open_pair(10, 11)  # line mode, a whole line and a half
    t = termios.tcgetattr(11)
    t[3] &= ~termios.ECHO
    termios.tcsetattr(11, termios.TCSANOW, t)
    fcntl.ioctl(10, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 5, 6))
    os.write(10, b"whole line\nhal")
    os.write(11, b"shown\n")
    open_pair(12, 13)  # raw, with bytes both ways
    tty.setraw(13)
    os.write(12, b"\x03\x04\r\x1b[A")
    os.write(13, b"\x1b[1mbold\n")
    fcntl.ioctl(12, 0x5420, struct.pack("i", 1))  # TIOCPKT
    open_pair(14, 15)  # nothing in it
    at(os.open(os.ttyname(15), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK), 16)
    open_pair(17, 18)  # the master is gone
    os.close(17)
    open_pair(19, 20)  # the slaves are gone, with output left
    os.write(20, b"parting words")
    os.close(20)
    open_pair(21, 22)  # half a line only
    os.write(21, b"ha")
    time.sleep(0.05)


def verify():
    eq(struct.unpack("HHHH", fcntl.ioctl(11, termios.TIOCGWINSZ, b"\0" * 8)), (33, 77, 5, 6), "size")
    t = termios.tcgetattr(11)
    eq(t[3] & (termios.ECHO | termios.ICANON | termios.ISIG), termios.ICANON | termios.ISIG, "settings")
    eq(os.read(11, 100), b"whole line\n", "a line")
    eq(select.select([11], [], [], 0)[0], [], "half a line is no line")
    os.write(10, b"\x7ff done\n")  # the erase character works on the half
    eq(os.read(11, 100), b"haf done\n", "the rest of the line")
    eq(os.read(10, 100), b"shown\r\n", "output")
    eq(os.read(13, 100), b"\x03\x04\r\x1b[A", "raw input")
    eq(os.read(12, 100), b"\0\x1b[1mbold\n", "raw output, in packet mode")
    eq(select.select([14, 15], [], [], 0)[0], [], "an idle pair")
    os.write(14, b"x\n")
    eq(os.read(16, 100), b"x\n", "third end")
    eq(flags(16) & (os.O_NONBLOCK | os.O_ACCMODE), os.O_NONBLOCK, "flags")
    eq(os.read(18, 100), b"", "hung up")
    eq(os.read(19, 100), b"parting words", "last output")
    try:
        os.read(19, 100)
        raise AssertionError("more than all")
    except OSError as e:
        eq(e.errno, 5, "the slave is gone")
    eq(select.select([22], [], [], 0)[0], [], "half a line only")
    os.write(21, b"lf\n")
    eq(os.read(22, 100), b"half\n", "half a line only")
    for m, s in ((10, 11), (12, 13), (14, 15), (21, 22)):
        eq(link(s), os.ptsname(m) if hasattr(os, "ptsname") else link(s))


main(setup, verify)
