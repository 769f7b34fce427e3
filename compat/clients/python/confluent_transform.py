"""Consume-transform-produce by confluent-kafka (librdkafka), see transform.py."""
import os
import random
import sys
import threading
import time

import confluent_kafka as ck

import transform


def reading(bootstrap, isolation, **more):
    return {"bootstrap.servers": bootstrap, "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "isolation.level": isolation, "fetch.wait.max.ms": 200, "reconnect.backoff.max.ms": 500, **more}


def read(bootstrap, topic, partitions):
    for isolation in "read_committed", "read_uncommitted":
        consumer = ck.Consumer(reading(bootstrap, isolation, **{"group.id": "reads-no-group"}))
        consumer.assign([ck.TopicPartition(topic, p, ck.OFFSET_BEGINNING) for p in range(partitions)])
        ended = 0
        while ended < partitions:
            for m in consumer.consume(500, 0.2):
                if m.error():
                    if not m.error().retriable():
                        raise ck.KafkaException(m.error())
                elif m.value() == b"end":
                    ended += 1
                else:
                    print(isolation, m.partition(), m.offset(), m.value().decode())
        consumer.close()


def again(call, *args):
    """Calls with a limit of seconds, and some times more when it is told to try again."""
    for left in 2, 1, 0:
        try:
            return call(*args, 10)
        except ck.KafkaException as e:
            if not e.args[0].retriable() or left == 0:
                raise
            print("again:", e, file=sys.stderr)


def rewind(consumer):
    """Goes back to what the group committed."""
    own = consumer.assignment()
    if not own:
        return
    for p in again(consumer.committed, own):
        p.offset = p.offset if p.offset >= 0 else ck.OFFSET_BEGINNING
        try:
            consumer.seek(p)
        except ck.KafkaException as e:
            print("seek:", e, file=sys.stderr)  # the partition went away meanwhile


def once(w, producer, consumer, messages, hold, commit):
    producer.begin_transaction()
    offsets = {}
    for m in messages:
        producer.produce(w.out, key=m.key(), value=m.value(), partition=m.partition())
        offsets[m.partition()] = m.offset() + 1
    if hold or not commit:
        producer.flush()
    if hold:
        w.say("holding")
        time.sleep(1000)
    if not commit:
        again(producer.abort_transaction)
        return False
    positions = [ck.TopicPartition(w.source, p, o) for p, o in offsets.items()]
    again(producer.send_offsets_to_transaction, positions, consumer.consumer_group_metadata())
    again(producer.commit_transaction)
    return True


def run():
    w = transform.Work()
    consumer = ck.Consumer(reading(w.bootstrap, "read_committed", **{
        "group.id": w.group, "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000}))
    producer = ck.Producer({"bootstrap.servers": w.bootstrap, "transactional.id": w.id, "transaction.timeout.ms": 20000,
                            "linger.ms": 0, "reconnect.backoff.max.ms": 500})
    again(producer.init_transactions)
    consumer.subscribe([w.source])
    while not w.stopped.is_set():
        messages = [m for m in consumer.consume(transform.CHUNK, 0.2) if not m.error()]
        if not messages:
            continue
        hold, commit = w.next()
        try:
            committed = once(w, producer, consumer, messages, hold, commit)
        except ck.KafkaException as e:
            if not e.args[0].txn_requires_abort():
                raise
            print("aborts:", e, file=sys.stderr)
            again(producer.abort_transaction)
            committed = False
        if not committed:
            rewind(consumer)
        w.ended(committed)
    consumer.close()


def say(line):
    sys.stdout.write(line + "\n")  # at once, as others write too
    sys.stdout.flush()


def late_producer(bootstrap, topic, partitions, name, rounds, chance):
    producer = ck.Producer({"bootstrap.servers": bootstrap, "transactional.id": name, "linger.ms": 0, "retry.backoff.ms": 2,
                            "reconnect.backoff.ms": 2, "reconnect.backoff.max.ms": 20})
    number = 0
    try:
        again(producer.init_transactions)
        for number in range(rounds):
            producer.begin_transaction()
            for p in chance.sample(range(partitions), partitions):
                producer.produce(topic, value=f"{name} {number}".encode(), partition=p)
                producer.flush()
            commit = chance.randrange(2) == 0
            again(producer.commit_transaction if commit else producer.abort_transaction)
            say(f"{'commit' if commit else 'abort'} {name} {number}")
    except ck.KafkaException as e:
        say(f"failed {name} {number} {e!r}")


def late(bootstrap, topic, partitions, name, producers, rounds, seed):
    """Writes transactions over a network that delays requests: see compat's txn_delayed.go."""
    threads = [threading.Thread(target=late_producer, args=(
        bootstrap, topic, partitions, f"{name}-{i}", rounds, random.Random(seed + i))) for i in range(producers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


if sys.argv[2] == "read":
    read(sys.argv[1], sys.argv[3], int(sys.argv[4]))
elif sys.argv[2] == "late":
    late(sys.argv[1], sys.argv[3], int(sys.argv[4]), sys.argv[5], int(sys.argv[6]), int(sys.argv[7]), int(sys.argv[8]))
else:
    try:
        run()
    except Exception as e:
        print(repr(e), file=sys.stderr)
        os._exit(1)  # librdkafka would go on with what it could not end
