"""Consume-transform-produce by aiokafka, see transform.py."""
import asyncio
import sys

import aiokafka
from aiokafka.errors import KafkaError, ProducerFenced

import transform


def reading(bootstrap, isolation, **more):
    return aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False,
                                     isolation_level=isolation, fetch_max_wait_ms=200, **more)


async def read(bootstrap, topic, partitions):
    for isolation in "read_committed", "read_uncommitted":
        consumer = reading(bootstrap, isolation)
        await consumer.start()
        consumer.assign([aiokafka.TopicPartition(topic, p) for p in range(partitions)])
        ended = 0
        while ended < partitions:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for r in records:
                    if r.value == b"end":
                        ended += 1
                    else:
                        print(isolation, r.partition, r.offset, r.value.decode())
        await consumer.stop()


async def rewind(consumer):
    """Goes back to what the group committed."""
    for tp in consumer.assignment():
        if await consumer.committed(tp) is None:
            await consumer.seek_to_beginning(tp)
        else:
            await consumer.seek_to_committed(tp)


async def once(w, producer, got, hold, commit):
    await producer.begin_transaction()
    sent, offsets = [], {}
    for tp, records in got.items():
        for r in records:
            sent.append(await producer.send(w.out, key=r.key, value=r.value, partition=r.partition))
        offsets[tp] = records[-1].offset + 1
    if hold or not commit:
        await asyncio.gather(*sent)
    if hold:
        w.say("holding")
        await asyncio.sleep(1000)
    if not commit:
        await producer.abort_transaction()
        return False
    await producer.send_offsets_to_transaction(offsets, w.group)
    await producer.commit_transaction()
    return True


async def run():
    w = transform.Work()
    consumer = reading(w.bootstrap, "read_committed", group_id=w.group, session_timeout_ms=6000, heartbeat_interval_ms=1000)
    consumer.subscribe([w.source])
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=w.bootstrap, transactional_id=w.id, transaction_timeout_ms=20000)
    await producer.start()  # an open transaction is aborted by it, before the group's offsets are asked for
    await consumer.start()
    while not w.stopped.is_set():
        try:
            got = await consumer.getmany(timeout_ms=200, max_records=transform.CHUNK)
        except KafkaError as e:
            print("poll:", repr(e), file=sys.stderr)
            continue
        if not got:
            continue
        hold, commit = w.next()
        try:
            committed = await once(w, producer, got, hold, commit)
        except ProducerFenced:
            raise
        except KafkaError as e:
            print("aborts:", repr(e), file=sys.stderr)
            await producer.abort_transaction()
            committed = False
        if not committed:
            await rewind(consumer)
        w.ended(committed)
    await consumer.stop()
    await producer.stop()


if sys.argv[2] == "read":
    asyncio.run(read(sys.argv[1], sys.argv[3], int(sys.argv[4])))
else:
    asyncio.run(run())
