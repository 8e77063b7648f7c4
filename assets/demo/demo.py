"""make demo: shows a running program move a -> b -> a, watched from outside."""
import hashlib, json, os, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = [os.path.join(HERE, "../../bin/hither-lab"), "--lab", "demo"]
BOLD, DIM, END = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def lab(*args, check=True, **options):
    done = subprocess.run(LAB + list(args), capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise SystemExit(f"demo: hither-lab {' '.join(args)} failed:\n{done.stdout}{done.stderr}")
    return done


def on(host, *args, **options):
    return lab("exec", host, "--", *args, **options)


def say(text=""):
    print(text, flush=True)


def step(command, host):
    say(f"{BOLD}{host}${END} {command}")


def read(path):
    with open(os.path.join(HERE, path)) as f:
        return f.read()


class Witness:
    """The witness, on host c, spoken to in lines."""

    def __init__(self):
        on("c", "sh", "-c", "cat >~/witness.py", input=read("witness.py"))
        self.process = subprocess.Popen(
            LAB + ["exec", "c", "--", "python3", "-u", "/home/lab/witness.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def next(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("demo: the witness is gone")
        return json.loads(line)

    def ask(self, question):
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.next()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def table(head, rows):
    rows = [head] + [[str(c) for c in r] for r in rows]
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    for n, r in enumerate(rows):
        line = "  ".join(c.ljust(w) for c, w in zip(r, widths)).rstrip()
        say("  " + (f"{DIM}{line}{END}" if n == 0 else line))


def size(n):
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            break
        n /= 1000
    else:
        unit = "GB"
    return f"{n:.3g} {unit}"


def move(witness, source, target):
    step(f"hither send counter {target}", source)
    witness.ask("mark")
    done = on(source, "hither", "send", "counter", target, "--json", check=False)
    lines = [l for l in done.stdout.splitlines() if l.startswith("{")]
    if done.returncode != 0 or not lines:
        raise SystemExit(f"demo: the program did not move (status {done.returncode}):\n{done.stdout}{done.stderr}")
    result = json.loads(lines[-1])
    time.sleep(0.7)  # let it work there
    return result, witness.ask("seen")


def main():
    lab("down")
    began = time.monotonic()
    lab("up", "--hosts", "3")
    say(f"{BOLD}hither demo{END}: a running program moves from host a to host b, and back.")
    say(f"Both hosts are on this machine (ready in {1000 * (time.monotonic() - began):.0f} ms); a witness watches from a third one, c.")
    say()
    witness = Witness()
    on("a", "sh", "-c", "cat >~/counter.py", input=read("counter.py"))
    step("hither run -d --name counter python3 counter.py 10.99.0.3", "a")
    on("a", "hither", "run", "-d", "--name", "counter", "python3", "/home/lab/counter.py", "10.99.0.3")
    witness.next()  # its first number has arrived
    time.sleep(0.7)
    facts = [("a", "at the start", witness.ask("first"))]
    say(f"{DIM}  It counts in one thread, talks to a child through pipes in another, writes a file in a third,")
    say(f"  and holds a secret that exists only in its memory.{END}")
    moves = []
    for source, target in (("a", "b"), ("b", "a")):
        moves.append((source, target, *move(witness, source, target)))
        facts.append((target, f"after {source} -> {target}", witness.ask("question")))
    final = witness.ask("reveal")
    lines = on("a", "sh", "-c", "cat ~/counter.log").stdout.splitlines()
    on("a", "hither", "stop", "counter", check=False)
    witness.close()

    say()
    say(f"{BOLD}The moves{END}")
    table(
        ["", "silence, by the witness", "by hither", "whole move", "sent", "memory", "rounds", "numbers missed"],
        [[f"{s} -> {t}", f"{1000 * w['gap']:.0f} ms", f"{r['downtime_ms']:.0f} ms", f"{r['total_ms'] / 1000:.2f} s",
          size(r["bytes_sent"]), size(r["bytes_memory"]), r["rounds"], w["missed"]] for s, t, r, w in moves])
    say()
    say(f"{BOLD}The program{END}, as it answers the witness")
    table(
        ["", "on", "pid", "threads", "child", "count", "words with child", "lines in its file"],
        [[when, host, f["pid"], " ".join(map(str, f["threads"])), f["child"], f["count"], f["talks"], f["lines"]]
         for host, when, f in facts])
    say()

    secret = bytes.fromhex(final["plain"])
    first = facts[0][2]
    whole = [l for n, l in enumerate(lines) if l != f"line {n}"]
    checks = [
        ("the secret is the one it had at the start", first["secret"] == hashlib.sha256(secret + b"first").hexdigest()),
        ("pids and thread ids are the same", all((f["pid"], f["child"], f["threads"]) == (first["pid"], first["child"], first["threads"]) for _, _, f in facts)),
        ("it counted on, and never began again", all(a[2]["count"] < b[2]["count"] for a, b in zip(facts, facts[1:]))),
        ("no word between parent and child got lost", final["wrong"] == 0 and final["talks"] > first["talks"]),
        ("its file is on a, whole: every line it wrote here and there", not whole and len(lines) >= final["lines"] - 1),
        ("its clock never went back", final["back"] == 0),
        ("it sent from b, then from a", [w["source"] for _, _, _, w in moves] == ["10.99.0.2", "10.99.0.1"]),
    ]
    for what, held in checks:
        say(f"  {'yes' if held else 'NO '}  {what}")
    say()
    if not all(held for _, held in checks):
        raise SystemExit("demo: not everything held")
    say(f"Look yourself: bin/hither-lab up, then `bin/hither-lab exec a` for a shell on host a.")


try:
    main()
finally:
    if not os.environ.get("KEEP"):
        lab("down", check=False)
