"""Members of groups by confluent-kafka (librdkafka), see member.py.

    confluent_members.py BOOTSTRAP members
"""
import queue
import re
import sys
import threading

import confluent_kafka as ck

import member


class Member:
    """One consumer, with a thread that does all that touches it."""

    def __init__(self, bootstrap, c, out):
        self.out, self.topic = out, c["topic"]
        self.own, self.at = set(), {}
        self.todo = queue.Queue()
        config = {"bootstrap.servers": bootstrap, "client.id": c["member"], "group.id": c["group"],
                  "auto.offset.reset": "earliest", "enable.auto.commit": False, "fetch.wait.max.ms": 200,
                  "topic.metadata.refresh.interval.ms": 5000, "reconnect.backoff.max.ms": 500,
                  "group.protocol": c["protocol"], "on_commit": self.on_commit}
        if c.get("instance"):
            config["group.instance.id"] = c["instance"]
        self.subscription = f"^{re.escape(self.topic)}$" if c.get("regex") else self.topic
        if c["protocol"] == "consumer" and c.get("assignors"):
            config["group.remote.assignor"] = c["assignors"][0]
        if c["protocol"] == "classic":
            config["heartbeat.interval.ms"] = 1000
            if c.get("session"):
                config["session.timeout.ms"] = c["session"]
            if c.get("assignors"):
                config["partition.assignment.strategy"] = ",".join(c["assignors"])
        self.consumer = ck.Consumer(config)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def on_assign(self, _, partitions):
        if partitions:
            self.own |= {p.partition for p in partitions}
            self.out.say("assigned", partitions=[p.partition for p in partitions])

    def on_revoke(self, _, partitions):
        gone = [p.partition for p in partitions]
        self.commit(gone)
        self.forget("revoked", gone)

    def on_lost(self, _, partitions):
        self.forget("lost", [p.partition for p in partitions])

    def forget(self, event, gone):
        self.own -= set(gone)
        for p in gone:
            self.at.pop(p, None)
        if gone:
            self.out.say(event, partitions=gone)

    def on_commit(self, error, partitions):
        offsets = {p.partition: p.offset for p in partitions}
        bad = [p.error for p in partitions if p.error is not None]
        self.out.committed(offsets, error or (bad[0] if bad else None))

    def positions(self, partitions):
        return [ck.TopicPartition(self.topic, p, self.at[p]) for p in sorted(partitions) if p in self.at]

    def commit(self, partitions, asynchronous=False):
        """Commits; librdkafka tells on_commit of an asynchronous commit's answer."""
        positions = self.positions(partitions)
        if not positions:
            return
        try:
            answer = self.consumer.commit(offsets=positions, asynchronous=asynchronous)
            if not asynchronous:
                self.on_commit(None, answer)
        except ck.KafkaException as e:
            self.out.committed({p.partition: p.offset for p in positions}, e)

    def run(self):
        self.consumer.subscribe([self.subscription], on_assign=self.on_assign, on_revoke=self.on_revoke, on_lost=self.on_lost)
        while True:
            try:
                op = self.todo.get_nowait()
                if op is None:
                    break
                op()
                continue
            except queue.Empty:
                pass
            m = self.consumer.poll(0.05)
            if m is None:
                continue
            if m.error():
                if not m.error().retriable():
                    print(m.error(), file=sys.stderr)
                continue
            self.at[m.partition()] = m.offset() + 1
            self.out.say("record", partition=m.partition(), offset=m.offset(), key=m.key().decode())
        self.consumer.close()

    def do(self, c):
        own = [ck.TopicPartition(self.topic, p) for p in sorted(self.own)]
        if c["op"] == "pause":
            self.consumer.pause(own)
            self.out.say("paused", partitions=sorted(self.own))
        elif c["op"] == "resume":
            self.out.say("resumed", partitions=sorted(self.own))
            self.consumer.resume(own)
        elif c["op"] == "seek":
            self.consumer.seek(ck.TopicPartition(self.topic, c["partition"], c["offset"]))
            self.at[c["partition"]] = c["offset"]
            self.out.say("sought", partition=c["partition"], offset=c["offset"])
        else:
            self.commit(self.own, asynchronous=c["op"] == "commit-async")

    def close(self):
        self.todo.put(None)
        self.thread.join()


def main():
    bootstrap, stream, members = sys.argv[1], member.standard_output(), {}

    def close(name):
        m = members.pop(name)
        m.close()
        m.out.say("closed")

    for c in member.commands():
        name = c["member"]
        if c["op"] == "join":
            members[name] = Member(bootstrap, c, member.Out(stream, name))
        elif c["op"] == "close":
            threading.Thread(target=close, args=(name,)).start()
        else:
            m = members[name]
            m.todo.put(lambda m=m, c=c: m.do(c))
    for name in list(members):
        close(name)


main()
