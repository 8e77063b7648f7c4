import os
from probe import *

PIPES, FILES = 150, 120


def setup():
    for i in range(PIPES):
        r, w = os.pipe()
        at(r, 400 + 2 * i), at(w, 401 + 2 * i)
        os.write(401 + 2 * i, b"pipe %d" % i)
    for i in range(FILES):
        at(os.open(f"{DIR}/many-{i}", os.O_RDWR | os.O_CREAT, 0o600), 100 + i)
        os.write(100 + i, b"%d." % i)
        at(os.eventfd(i + 1), 250 + i)


def verify():
    for i in range(PIPES):
        eq(os.read(400 + 2 * i, 100), b"pipe %d" % i)
    for i in range(FILES):
        eq(os.lseek(100 + i, 0, 1), len(b"%d." % i))
        eq(os.pread(100 + i, 100, 0), b"%d." % i)
        eq(os.eventfd_read(250 + i), i + 1)


main(setup, verify)
