"""The loop of a client driver: one JSON request a line in, one JSON answer a line out.

compat asks every client the same questions; see driver.go for the requests and
answers. A driver run with `drain` writes what a consumer group reads to files
until it is told to stop with SIGTERM, then commits and leaves the group.
"""
import base64
import json
import signal
import sys
import threading
import traceback


def b64(data):
    return None if data is None else base64.b64encode(data).decode()


def unb64(text):
    return None if text is None else base64.b64decode(text)


def record(topic_record):
    """A record of a request: key, value and headers as bytes."""
    return {
        "key": unb64(topic_record.get("key")),
        "value": unb64(topic_record.get("value")),
        "headers": [(h["name"], unb64(h.get("value"))) for h in topic_record.get("headers") or []],
    }


def answer(member, partition, offset, timestamp, key, value, headers):
    return {
        "member": member, "partition": partition, "offset": offset, "timestamp": timestamp,
        "key": b64(key), "value": b64(value),
        "headers": [{"name": name, "value": b64(val)} for name, val in headers or []],
    }


def serve(client, out):
    """Answers requests until standard input ends. out is the real standard output."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"ok": getattr(client, request["op"])(**(request.get("args") or {}))}
        except Exception as e:  # every failure is the check's to report
            traceback.print_exc()
            reply = {"error": f"{type(e).__name__}: {e}"}
        out.write(json.dumps(reply) + "\n")
        out.flush()


def drain(members, directory, open_member):
    """Runs each member in a thread until SIGTERM.

    open_member(i, write, stopping) reads until stopping() and closes its
    consumer; write(partition, offset, key, value) adds a line to its file.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    failed = []

    def member(i):
        try:
            with open(f"{directory}/{i}.out", "ab", buffering=1 << 16) as f:
                def write(partition, offset, key, value):
                    f.write(b"%d\x1f%d\x1f%s\x1f%s\n" % (partition, offset, key, value))
                open_member(i, write, f.flush, stop.is_set)
        except Exception:
            failed.append(i)
            traceback.print_exc()

    threads = [threading.Thread(target=member, args=(i,)) for i in range(members)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    sys.exit(1 if failed else 0)


def main(make):
    """argv: BOOTSTRAP serve | BOOTSTRAP drain TOPIC GROUP MEMBERS DIRECTORY"""
    bootstrap, mode, *rest = sys.argv[1:]
    out, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    client = make(bootstrap)
    if mode == "serve":
        serve(client, out)
        return
    topic, group, members, directory = rest
    client.drain(topic, group, int(members), directory)
