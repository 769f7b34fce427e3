"""Members of groups by aiokafka, see member.py.

    aiokafka_members.py BOOTSTRAP members
"""
import asyncio
import json
import sys

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

import member

ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor, "sticky": StickyPartitionAssignor}


class Member(aiokafka.abc.ConsumerRebalanceListener):
    """One consumer, with a task that polls and does what it is told between polls."""

    def __init__(self, bootstrap, c, out):
        self.out, self.topic, self.at = out, c["topic"], {}
        self.todo = asyncio.Queue()
        more = {}
        if c.get("session"):
            more["session_timeout_ms"] = c["session"]
        if c.get("instance"):
            more["group_instance_id"] = c["instance"]
        if c.get("assignors"):
            more["partition_assignment_strategy"] = [ASSIGNORS[a] for a in c["assignors"]]
        self.consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=bootstrap, client_id=c["member"], group_id=c["group"], auto_offset_reset="earliest",
            enable_auto_commit=False, fetch_max_wait_ms=200, heartbeat_interval_ms=1000, **more)
        self.consumer.subscribe([self.topic], listener=self)
        self.task = asyncio.create_task(self.run())

    async def on_partitions_assigned(self, assigned):
        if assigned:
            self.out.say("assigned", partitions=sorted(p.partition for p in assigned))

    async def on_partitions_revoked(self, revoked):
        await self.commit(self.owned())
        self.at = {}
        if revoked:
            self.out.say("revoked", partitions=sorted(p.partition for p in revoked))

    def owned(self):
        return sorted(p.partition for p in self.consumer.assignment())

    def parts(self):
        return [aiokafka.TopicPartition(self.topic, p) for p in self.owned()]

    async def commit(self, partitions):
        offsets = {p: self.at[p] for p in partitions if p in self.at}
        if not offsets:
            return
        try:
            await self.consumer.commit({aiokafka.TopicPartition(self.topic, p): o for p, o in offsets.items()})
            self.out.committed(offsets)
        except KafkaError as e:
            self.out.committed(offsets, repr(e))

    async def run(self):
        try:
            await self.consumer.start()
            while True:
                while not self.todo.empty():
                    op = self.todo.get_nowait()
                    if op is None:
                        await self.consumer.stop()
                        self.out.say("closed")
                        return
                    await self.do(op)
                try:
                    got = await self.consumer.getmany(timeout_ms=50)
                except KafkaError as e:
                    print(repr(e), file=sys.stderr)
                    continue
                for tp, records in got.items():
                    for r in records:
                        self.at[tp.partition] = r.offset + 1
                        self.out.say("record", partition=tp.partition, offset=r.offset, key=r.key.decode())
        except Exception as e:
            self.out.say("error", text=repr(e))
            raise

    async def do(self, c):
        if c["op"] == "pause":
            self.consumer.pause(*self.parts())
            self.out.say("paused", partitions=self.owned())
        elif c["op"] == "resume":
            self.out.say("resumed", partitions=self.owned())
            self.consumer.resume(*self.parts())
        elif c["op"] == "seek":
            self.consumer.seek(aiokafka.TopicPartition(self.topic, c["partition"]), c["offset"])
            self.at[c["partition"]] = c["offset"]
            self.out.say("sought", partition=c["partition"], offset=c["offset"])
        elif c["op"] == "commit":
            await self.commit(self.owned())
        else:
            self.background = asyncio.create_task(self.commit(self.owned()))


async def main():
    bootstrap, stream, members = sys.argv[1], member.standard_output(), {}
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        c = json.loads(line)
        name = c["member"]
        if c["op"] == "join":
            members[name] = Member(bootstrap, c, member.Out(stream, name))
        else:
            members[name].todo.put_nowait(None if c["op"] == "close" else c)
    for m in members.values():
        m.todo.put_nowait(None)
    await asyncio.gather(*(m.task for m in members.values()))


asyncio.run(main())
