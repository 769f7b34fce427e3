"""The loop of a driver of group members: commands come in as JSON lines, what
happens to the members goes out as JSON lines. compat's group_member.go has the
other end and says what each means.
"""
import json
import sys
import threading
import time


class Out:
    """Writes the events of one member."""

    lock = threading.Lock()

    def __init__(self, stream, member):
        self.stream, self.member = stream, member

    def say(self, event, **facts):
        with Out.lock:
            line = {"at": time.time_ns() // 1000, "member": self.member, "event": event, **facts}
            self.stream.write(json.dumps(line) + "\n")
            self.stream.flush()

    def committed(self, offsets, error=None):
        if error:
            self.say("not-committed", offsets=offsets, text=str(error))
        else:
            self.say("committed", offsets=offsets)


def commands():
    for line in sys.stdin:
        yield json.loads(line)


def standard_output():
    """The real standard output; what a library prints is no event."""
    out, sys.stdout = sys.stdout, sys.stderr
    return out
