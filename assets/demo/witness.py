"""The witness: a process on a third host that sees nothing but what the program sends.

It notes the longest silence between two numbers, by its own clock. Commands come on stdin, one a
line: `mark` starts a new watch, `seen` tells of it, anything else is passed on as a question.
"""
import json, select, socket, sys, time

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 9000))
last_time = last_number = source = None
seen = {}


def mark():
    seen.update(gap=0.0, missed=0, beats=0)


def tell(thing):
    print(json.dumps(thing), flush=True)


mark()
while True:
    ready, _, _ = select.select([sock, sys.stdin], [], [])
    if sock in ready:
        data, sender = sock.recvfrom(65536)
        now = time.monotonic()
        if data[:1] == b"{":  # an answer
            tell(json.loads(data))
            continue
        number = int(data)
        if last_time is None:
            tell({"first": sender[0]})
        else:
            seen["gap"] = max(seen["gap"], now - last_time)
            seen["missed"] += number - last_number - 1
        seen["beats"] += 1
        last_time, last_number, source = now, number, sender
    elif sys.stdin in ready:
        command = sys.stdin.readline().strip()
        if not command:
            break
        if command == "mark":
            mark()
            tell({})
        elif command == "seen":
            tell(dict(seen, source=source[0]))
        else:
            sock.sendto(command.encode(), source)
