'use strict'
// Members of groups by kafkajs: commands come in as JSON lines, what happens to
// the members goes out as JSON lines. compat's group_member.go has the other
// end and says what each means.
//
//   node members.js BOOTSTRAP members
const readline = require('readline')
const { Kafka, logLevel, PartitionAssigners } = require('kafkajs')

const bootstrap = process.argv[2]
const members = new Map()
const micros = () => Math.round((performance.timeOrigin + performance.now()) * 1000)

class Member {
  constructor (c) {
    this.name = c.member
    this.topic = c.topic
    this.own = []
    this.at = new Map()
    this.turn = this.join(c)
  }

  say (event, facts) {
    process.stdout.write(JSON.stringify({ at: micros(), member: this.name, event, ...facts }) + '\n')
  }

  async join (c) {
    const kafka = new Kafka({
      brokers: [bootstrap],
      clientId: c.member,
      logLevel: logLevel.ERROR,
      logCreator: () => ({ label, log }) => console.error(c.member, label, log.message, log.error || ''),
      // A broker that is restarted is waited for.
      retry: { retries: 200, initialRetryTime: 50, maxRetryTime: 500 }
    })
    this.consumer = kafka.consumer({
      groupId: c.group,
      maxWaitTimeInMs: 200,
      heartbeatInterval: 1000,
      sessionTimeout: c.session || 30000,
      partitionAssigners: [PartitionAssigners.roundRobin]
    })
    const { GROUP_JOIN, REBALANCING, CRASH } = this.consumer.events
    this.consumer.on(GROUP_JOIN, ({ payload }) => {
      this.gone()
      this.own = payload.memberAssignment[this.topic] || []
      if (this.own.length > 0) this.say('assigned', { partitions: this.own })
    })
    this.consumer.on(REBALANCING, () => this.gone())
    this.consumer.on(CRASH, ({ payload }) => console.error(c.member, payload.error))
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: [this.topic], fromBeginning: true })
    await this.consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message: m }) => {
        this.at.set(partition, Number(m.offset) + 1)
        this.say('record', { partition, offset: Number(m.offset), key: m.key.toString() })
      }
    })
  }

  gone () {
    if (this.own.length > 0) this.say('revoked', { partitions: this.own })
    this.own = []
    this.at.clear()
  }

  async commit () {
    const offsets = Object.fromEntries(this.at)
    try {
      await this.consumer.commitOffsets([...this.at].map(([partition, offset]) => ({ topic: this.topic, partition, offset: String(offset) })))
      this.say('committed', { offsets })
    } catch (e) {
      this.say('not-committed', { offsets, text: String(e) })
    }
  }

  async do (c) {
    const all = [{ topic: this.topic, partitions: this.own }]
    if (c.op === 'pause') {
      this.consumer.pause(all)
      this.say('paused', { partitions: this.own })
    } else if (c.op === 'resume') {
      this.say('resumed', { partitions: this.own })
      this.consumer.resume(all)
    } else if (c.op === 'seek') {
      this.consumer.seek({ topic: this.topic, partition: c.partition, offset: String(c.offset) })
      this.at.set(c.partition, c.offset)
      this.say('sought', { partition: c.partition, offset: c.offset })
    } else if (c.op === 'commit') {
      await this.commit()
    } else if (c.op === 'commit-async') {
      this.commit()
    } else if (c.op === 'close') {
      if (this.at.size > 0) await this.commit()
      await this.consumer.disconnect()
      this.gone()
      this.say('closed')
    }
  }

  // Commands to a member are carried out one after the other.
  next (c) {
    this.turn = this.turn.then(() => this.do(c)).catch((e) => this.say('error', { text: String(e.stack || e) }))
  }
}

async function main () {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const c = JSON.parse(line)
    if (c.op === 'join') {
      const m = new Member(c)
      m.turn = m.turn.catch((e) => m.say('error', { text: String(e.stack || e) }))
      members.set(c.member, m)
    } else {
      members.get(c.member).next(c)
    }
  }
  for (const m of members.values()) m.next({ op: 'close' })
  await Promise.all([...members.values()].map((m) => m.turn))
  process.exit(0)
}

main()
