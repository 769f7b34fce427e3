"""What the drivers of consume-transform-produce share: see compat's
txn_clients.go for the arguments and for what is printed.

    NAME_transform.py BOOTSTRAP transform IN OUT GROUP ID SEED HOLD
    NAME_transform.py BOOTSTRAP read TOPIC PARTITIONS
"""
import os
import random
import sys
import threading

CHUNK = 40

# Seconds that a transaction may take; a client that hangs is one to be started anew.
LONGEST = 15


class Work:
    """The arguments of transform, and when it is to end."""

    def __init__(self):
        self.bootstrap, _, self.source, self.out, self.group, self.id, seed, hold = sys.argv[1:9]
        self.random, self.hold, self.number = random.Random(int(seed)), int(hold), 0
        self.stopped = threading.Event()
        self.stream, sys.stdout = sys.stdout, sys.stderr
        self.watch = None
        threading.Thread(target=self.wait, daemon=True).start()

    def wait(self):
        sys.stdin.read()
        self.stopped.set()

    def next(self):
        """Begins the next transaction: shall it be held open, and shall it be committed?"""
        self.number += 1
        if self.number != self.hold:
            self.watch = threading.Timer(LONGEST, self.hangs)
            self.watch.daemon = True
            self.watch.start()
        return self.number == self.hold, self.random.randrange(5) != 0

    def say(self, word):
        print(word, file=self.stream, flush=True)

    def hangs(self):
        print(self.id, "hangs, the process ends", file=sys.stderr)
        os._exit(1)

    def ended(self, committed):
        self.watch.cancel()
        self.say(f"{'commit' if committed else 'abort'} {self.number}")
