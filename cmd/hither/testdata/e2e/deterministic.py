"""Writes PATH with SIZE MB that compress a little, the same each time."""
import random, sys

path, size = sys.argv[1], int(sys.argv[2])
r = random.Random(1)
words = [b"%08x" % r.getrandbits(32) for _ in range(2000)]
text = [b" ".join(r.choices(words, k=8)) + b"\n" for _ in range(800)]
with open(path, "wb") as f:
    while f.tell() < size * 1_000_000:
        f.writelines(r.choices(text, k=10000))
    f.truncate(size * 1_000_000)
