"""confluent-kafka (librdkafka) as a client of compat."""
import threading
import time

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

import driver


class Client:
    def __init__(self, bootstrap):
        self.base = {"bootstrap.servers": bootstrap, "topic.metadata.refresh.interval.ms": 5000,
                     "reconnect.backoff.max.ms": 500}
        self.admin = AdminClient(self.base)

    def version(self):
        return f"{ck.__version__} (librdkafka {ck.libversion()[0]})"

    # Topics.

    def create(self, topic, partitions):
        for future in self.admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            future.result(30)

    def topics(self):
        return sorted(self.admin.list_topics(timeout=30).topics)

    def describe(self, topic):
        found = self.admin.list_topics(topic, timeout=30).topics[topic]
        if found.error:
            raise ck.KafkaException(found.error)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        configs = self.admin.describe_configs([resource])[resource].result(30)
        return {"partitions": len(found.partitions), "retention": configs["retention.ms"].value}

    def delete(self, topic):
        for future in self.admin.delete_topics([topic]).values():
            future.result(30)

    # Records.

    def produce(self, topic, codec, idempotent, records):
        producer = ck.Producer({**self.base, "compression.type": codec, "enable.idempotence": idempotent,
                                "acks": "all", "linger.ms": 50, "message.max.bytes": 1100000})
        errors = []
        for r in map(driver.record, records):
            producer.produce(topic, key=r["key"], value=r["value"], headers=r["headers"] or None,
                             on_delivery=lambda e, _: errors.append(e) if e else None)
            producer.poll(0)
        left = producer.flush(60)
        if left or errors:
            raise RuntimeError(f"{left} records not delivered, errors {errors[:3]}")

    def consumer(self, group, **more):
        return ck.Consumer({**self.base, "group.id": group, "auto.offset.reset": "earliest",
                            "enable.auto.commit": False, **more})

    def consume(self, topic, group, members, count, seconds):
        out, lock, end = [], threading.Lock(), time.monotonic() + seconds

        def member(i):
            consumer = self.consumer(group)
            consumer.subscribe([topic])
            try:
                while len(out) < count and time.monotonic() < end:
                    m = consumer.poll(0.1)
                    if m is None:
                        continue
                    if m.error():
                        raise ck.KafkaException(m.error())
                    with lock:
                        out.append(driver.answer(i, m.partition(), m.offset(), m.timestamp()[1],
                                                 m.key(), m.value(), m.headers()))
                positions = [p for p in consumer.position(consumer.assignment()) if p.offset >= 0]
                if positions:
                    consumer.commit(offsets=positions, asynchronous=False)
            finally:
                consumer.close()

        self.together(members, member)
        return out

    def together(self, n, run):
        failures = []

        def guarded(i):
            try:
                run(i)
            except Exception as e:
                failures.append(e)

        threads = [threading.Thread(target=guarded, args=(i,)) for i in range(n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if failures:
            raise failures[0]

    def times(self, topic, partitions, timestamp):
        consumer = self.consumer("times")
        asked = [ck.TopicPartition(topic, p, timestamp) for p in range(partitions)]
        # librdkafka answers the end offset where there is no such record: ask for the ends too.
        found = {p.partition: p.offset for p in consumer.offsets_for_times(asked, timeout=30)}
        ends = {p: consumer.get_watermark_offsets(ck.TopicPartition(topic, p), timeout=30)[1] for p in found}
        consumer.close()
        return {str(p): -1 if o < 0 or o == ends[p] else o for p, o in found.items()}

    # Groups.

    def groups(self):
        return sorted(g.group_id for g in self.admin.list_consumer_groups().result().valid)

    def group(self, group, topic):
        described = self.admin.describe_consumer_groups([group])[group].result(30)
        request = ck.ConsumerGroupTopicPartitions(group)
        committed = self.admin.list_consumer_group_offsets([request])[group].result(30).topic_partitions
        committed = {p.partition: p.offset for p in committed if p.topic == topic}
        asked = {ck.TopicPartition(topic, p): OffsetSpec.latest() for p in committed}
        ends = {p.partition: f.result(30).offset for p, f in self.admin.list_offsets(asked).items()}
        return {"state": described.state.name, "members": len(described.members),
                "lag": {str(p): ends[p] - o for p, o in committed.items()}}

    def delete_group(self, group):
        self.admin.delete_consumer_groups([group])[group].result(30)

    def drain(self, topic, group, members, directory):
        def member(_, write, flush, stopping):
            consumer = self.consumer(group, **{"enable.auto.commit": True, "auto.commit.interval.ms": 500})
            consumer.subscribe([topic])
            while not stopping():
                for m in consumer.consume(5000, 0.1):
                    if not m.error():  # a broker that is away is waited for
                        write(m.partition(), m.offset(), m.key(), m.value())
                flush()
            consumer.close()

        driver.drain(members, directory, member)


driver.main(Client)
