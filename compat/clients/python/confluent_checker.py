"""Clients of the workload checker by confluent-kafka (librdkafka). What they do they tell in the lines of
compat/checker/lines.go.

    confluent_checker.py BOOTSTRAP ROLE NAME TOPIC PARTITIONS SEED FIRST [GROUP PROTOCOL]

ROLE is plain, transactional or member. FIRST is the first number of the process's producers, transactions and
commits. It ends when its standard input does.
"""
import faulthandler
import os
import random
import sys
import threading
import time

import confluent_kafka as ck

TXN_TIMEOUT = 5000  # milliseconds

# Seconds that one step may take: librdkafka hangs now and then where its broker was away. The process then ends, and another one comes.
LONGEST = 20


def alive():
    """Says that a step begins; whatever hangs is written to standard error, where the log is."""
    faulthandler.dump_traceback_later(LONGEST, exit=True)


class Client:
    def __init__(self):
        self.bootstrap, _, self.name, self.topic, partitions, seed, first = sys.argv[1:8]
        self.partitions, self.random = int(partitions), random.Random(f"{seed} {self.name}")
        self.number, self.lock = int(first), threading.Lock()
        self.stream, sys.stdout = sys.stdout, sys.stderr
        self.stopped = threading.Event()
        threading.Thread(target=self.wait, daemon=True).start()

    def wait(self):
        sys.stdin.read()
        self.stopped.set()

    def next(self):
        with self.lock:
            self.number += 1
            return self.number

    def tell(self, *lines):
        with self.lock:
            self.stream.write("".join(line + "\n" for line in lines))
            self.stream.flush()

    def remark(self, what):
        self.tell(f"# {self.name}: {what}".replace("\n", "; "))

    def config(self, **more):
        return {"bootstrap.servers": self.bootstrap, "client.id": self.name, "socket.timeout.ms": 4000, "reconnect.backoff.ms": 50,
                "reconnect.backoff.max.ms": 200, "topic.metadata.refresh.interval.ms": 10000, "error_cb": lambda e: None, "log_level": 0,
                **{k.replace("_", "."): v for k, v in more.items()}}


class Producer:
    """A producer whose sends are told."""

    def __init__(self, client, **more):
        self.client, self.writer, self.sent, self.failed = client, client.next(), 0, None
        self.producer = ck.Producer(client.config(enable_idempotence=True, linger_ms=2, retry_backoff_ms=50, request_timeout_ms=3000, **more))
        client.tell(f"writer {self.writer} {client.name}")

    def send(self, count, txn):
        c, lines, sends = self.client, [], []
        for _ in range(count):
            self.sent += 1
            value, partition = f"{self.writer}.{self.sent}", c.random.randrange(c.partitions)
            lines.append(f"send {value} {partition} {txn}")
            sends.append((value, partition))
        c.tell(*lines)
        for value, partition in sends:
            payload = value + "." + "y" * (20 + c.random.randrange(200))
            while True:
                try:
                    self.producer.produce(c.topic, payload, partition=partition, on_delivery=lambda e, m, v=value: self.delivered(v, e, m))
                    break
                except BufferError:
                    self.producer.poll(0.1)
                except ck.KafkaException as e:  # it was not taken
                    self.failed = e
                    c.tell(f"sent {value} failed -1")
                    break
        self.producer.poll(0)

    def delivered(self, value, error, message):
        if error is None:
            self.client.tell(f"sent {value} ok {message.offset()}")
        else:
            self.failed = error
            self.client.remark(f"sent {value}: {error}")
            self.client.tell(f"sent {value} unknown -1")


def plain(c):
    while not c.stopped.is_set():
        alive()
        p = Producer(c, message_timeout_ms=0)
        for _ in range(c.random.randrange(100, 300)):
            alive()
            p.send(c.random.randrange(1, 17), 0)
            if c.stopped.wait(c.random.uniform(0.01, 0.04)) or p.failed is not None:
                break
        p.producer.flush(30)


def again(c, call, *args):
    """Calls with a limit, and more times when it is told to try again."""
    for left in range(5, -1, -1):
        try:
            return call(*args, 8)
        except ck.KafkaException as e:
            if not e.args[0].retriable() or left == 0:
                raise
            c.remark(f"again: {e}")


class Reader:
    """Reads all partitions from the beginning on, without a group."""

    def __init__(self, c, name, committed):
        self.c, self.name, self.at, self.polls, self.consumer = c, name, [0] * c.partitions, 0, None
        self.isolation = "read_committed" if committed else "read_uncommitted"
        c.tell(f"consumer {name} assigned{' committed' if committed else ''}")

    def poll(self, most, seconds, txn):
        if self.consumer is None:
            self.consumer = ck.Consumer(self.c.config(group_id="none", enable_auto_commit=False, isolation_level=self.isolation,
                                                      fetch_wait_max_ms=200, auto_offset_reset="error"))
            self.consumer.assign([ck.TopicPartition(self.c.topic, p, o) for p, o in enumerate(self.at)])
        told(self.c, self.name, txn, self.consumer.consume(most, seconds), self.at)
        self.polls += 1
        if self.polls % 200 == 0:
            self.consumer.close()
            self.consumer = None


def told(c, name, txn, messages, at):
    """Tells what a poll gave."""
    words = []
    for m in messages:
        if m.error():
            c.remark(f"{name}: {m.error()}")
            continue
        writer, number, _ = (m.value().split(b".", 2) + [b"", b""])[:3]
        value = f"{writer.decode()}.{number.decode()}" if writer.isdigit() and number.isdigit() else "FOREIGN"
        words.append(f"{m.partition()}:{m.offset()}={value}")
        at[m.partition()] = m.offset() + 1
    if words:
        c.tell(f"poll {name} {txn} {time.monotonic_ns()} {' '.join(words)}")


def reads(c, committed):
    reader = Reader(c, c.name + "-reads", committed)
    while not c.stopped.is_set():
        reader.poll(c.random.randrange(1, 1000), 0.2, 0)


def transactional(c):
    reader, transactional_id, group = Reader(c, c.name + "-reads", True), c.name, "by-" + c.name
    while not c.stopped.is_set():
        alive()
        p = Producer(c, transactional_id=transactional_id, transaction_timeout_ms=TXN_TIMEOUT)
        try:
            again(c, p.producer.init_transactions)
            for _ in range(60):
                if c.stopped.is_set() or not one(c, p, reader, group):
                    break
        except ck.KafkaException as e:
            c.remark(f"gives up: {e}")
        p.producer.purge()
        p.producer.flush(5)
        if c.random.randrange(3) == 0:
            transactional_id = f"{c.name}-{p.writer}"


def one(c, p, reader, group):
    """One transaction; false if the producer is not to go on."""
    alive()
    txn = c.next()
    p.failed = None
    p.producer.begin_transaction()
    c.tell(f"begin {txn} {c.name}")
    sent = False
    for _ in range(c.random.randrange(1, 5)):
        if c.random.randrange(3) == 0:
            reader.poll(c.random.randrange(1, 300), 0.1, txn)
        else:
            p.send(c.random.randrange(1, 7), txn)
            sent = True
    dice = c.random.randrange(80)
    commit = sent and dice > 20
    asked = False
    try:
        if dice == 0:
            c.tell(f"end {txn} failed {time.monotonic_ns()}")
            return False
        if commit and c.random.randrange(3) == 0:
            offsets(c, p, reader, group, txn)
        p.producer.flush(20)
        commit = commit and p.failed is None
        if commit:
            asked = True
            c.tell(f"ask {txn} {time.monotonic_ns()}")
            again(c, p.producer.commit_transaction)
        else:
            again(c, p.producer.abort_transaction)
        c.tell(f"end {txn} ok {time.monotonic_ns()}")
        return True
    except ck.KafkaException as e:
        c.remark(f"transaction {txn}: {e}")
        if e.args[0].txn_requires_abort() and not asked:
            try:
                again(c, p.producer.abort_transaction)
                c.tell(f"end {txn} failed {time.monotonic_ns()}")
                return True
            except ck.KafkaException as e2:
                c.remark(f"transaction {txn}: {e2}")
        c.tell(f"end {txn} unknown {time.monotonic_ns()}")
        return False


def offsets(c, p, reader, group, txn):
    if reader.consumer is None:
        return
    parts = []
    for partition, at in enumerate(reader.at):
        number = c.next()
        parts.append(ck.TopicPartition(c.topic, partition, at, metadata=str(number)))
        c.tell(f"commit {number} {c.name} {group} {partition} {at} {txn} {time.monotonic_ns()}")
    consumer = ck.Consumer(c.config(group_id=group))
    try:
        again(c, p.producer.send_offsets_to_transaction, parts, consumer.consumer_group_metadata())
    finally:
        consumer.close()


def member(c):
    group, protocol = sys.argv[8:10]
    committed = protocol == "consumer"
    c.tell(f"consumer {c.name}{' committed' if committed else ''}")
    while not c.stopped.is_set():
        more = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "partition.assignment.strategy": "range"} if protocol == "classic" else {}
        consumer = ck.Consumer({**c.config(group_id=group, enable_auto_commit=False, auto_offset_reset="earliest", fetch_wait_max_ms=200,
                                           isolation_level="read_committed" if committed else "read_uncommitted", group_protocol=protocol), **more})
        consumer.subscribe([c.topic])
        for _ in range(c.random.randrange(200, 600)):
            alive()
            if c.stopped.is_set():
                break
            at = {}
            told(c, c.name, 0, consumer.consume(c.random.randrange(1, 400), 0.2), at)
            if at and c.random.randrange(4) == 0:
                commit(c, consumer, group, at)
        consumer.close()


def commit(c, consumer, group, at):
    numbers = {p: c.next() for p in at}
    c.tell(*(f"commit {numbers[p]} {c.name} {group} {p} {o} 0 {time.monotonic_ns()}" for p, o in at.items()))
    outcomes = dict.fromkeys(at, "unknown")
    try:
        for p in consumer.commit(offsets=[ck.TopicPartition(c.topic, p, o, metadata=str(numbers[p])) for p, o in at.items()], asynchronous=False):
            if p.error is None:
                outcomes[p.partition] = "ok"
    except ck.KafkaException as e:
        c.remark(f"commit: {e}")
    c.tell(*(f"committed {numbers[p]} {o} {time.monotonic_ns()}" for p, o in outcomes.items()))


def main():
    c, role = Client(), sys.argv[2]
    threads = []
    if role == "plain":
        threads.append(threading.Thread(target=reads, args=(c, False)))
    for t in threads:
        t.start()
    {"plain": plain, "transactional": transactional, "member": member}[role](c)
    for t in threads:
        t.join()
    c.remark("ends")
    os._exit(0)  # librdkafka's own threads may hang where its broker was away


main()
