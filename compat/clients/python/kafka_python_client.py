"""kafka-python as a client of compat."""
import threading
import time

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata

import driver


class Client:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.opened = None

    @property
    def admin(self):
        if self.opened is None:
            self.opened = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        return self.opened

    def version(self):
        return kafka.__version__

    # Topics.

    def create(self, topic, partitions):
        self.admin.create_topics([NewTopic(topic, partitions, 1)])

    def topics(self):
        return sorted(self.admin.list_topics())

    def describe(self, topic):
        [found] = self.admin.describe_topics([topic])
        return {"partitions": len(found["partitions"])}

    def delete(self, topic):
        self.admin.delete_topics([topic])

    # Records.

    def produce(self, topic, codec, idempotent, records):
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all", linger_ms=50, max_request_size=1100000,
                                 enable_idempotence=idempotent, compression_type=None if codec == "none" else codec)
        try:
            sent = [producer.send(topic, key=r["key"], value=r["value"], headers=r["headers"])
                    for r in map(driver.record, records)]
            producer.flush(60)
            for s in sent:
                s.get(60)
        finally:
            producer.close()

    def consumer(self, group, **more):
        return KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, auto_offset_reset="earliest",
                             enable_auto_commit=False, **more)

    def consume(self, topic, group, members, count, seconds):
        out, lock, end, failures = [], threading.Lock(), time.monotonic() + seconds, []

        def member(i):
            # One record a poll, so that the position never runs ahead of what was answered.
            consumer = self.consumer(group, max_poll_records=1 if members == 1 else 500)
            consumer.subscribe([topic])
            while len(out) < count and time.monotonic() < end:
                for records in consumer.poll(timeout_ms=100).values():
                    with lock:
                        out.extend(driver.answer(i, m.partition, m.offset, m.timestamp, m.key, m.value, m.headers)
                                   for m in records)
            if consumer.assignment():
                consumer.commit({p: OffsetAndMetadata(consumer.position(p), "", -1) for p in consumer.assignment()})
            consumer.close(autocommit=False)

        def guarded(i):
            try:
                member(i)
            except Exception as e:
                failures.append(e)

        threads = [threading.Thread(target=guarded, args=(i,)) for i in range(members)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if failures:
            raise failures[0]
        return out

    def times(self, topic, partitions, timestamp):
        consumer = self.consumer(None)
        found = consumer.offsets_for_times({TopicPartition(topic, p): timestamp for p in range(partitions)})
        consumer.close()
        return {str(p.partition): -1 if o is None else o.offset for p, o in found.items()}

    # Groups.

    def groups(self):
        return sorted(g["group_id"] for g in self.admin.list_groups())

    def group(self, group, topic):
        described = self.admin.describe_groups([group])[group]
        committed = {p: o.offset for p, o in self.admin.list_group_offsets(group)[group].items() if p.topic == topic}
        consumer = self.consumer(None)
        ends = consumer.end_offsets(list(committed))
        consumer.close()
        return {"state": described["group_state"], "members": len(described["members"]),
                "lag": {str(p.partition): ends[p] - o for p, o in committed.items()}}

    def delete_group(self, group):
        self.admin.delete_groups([group])


driver.main(Client)
