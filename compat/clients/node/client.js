'use strict'
// kafkajs as a client of compat: see driver.go for the requests and answers.
//
//   node client.js BOOTSTRAP serve
//   node client.js BOOTSTRAP drain TOPIC GROUP MEMBERS DIRECTORY
const fs = require('fs')
const readline = require('readline')
const { Kafka, logLevel } = require('kafkajs')
const codecs = require('./codecs')

const [bootstrap, mode, ...rest] = process.argv.slice(2)
const kafka = new Kafka({
  brokers: [bootstrap],
  logLevel: logLevel.ERROR,
  logCreator: () => ({ label, log }) => console.error(label, log.message, log.error || ''),
  // A broker that is restarted is waited for.
  retry: { retries: 200, initialRetryTime: 50, maxRetryTime: 500 }
})
const b64 = (buffer) => (buffer === null || buffer === undefined ? null : Buffer.from(buffer).toString('base64'))
const unb64 = (text) => (text === null || text === undefined ? null : Buffer.from(text, 'base64'))
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function withAdmin (f) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await f(admin)
  } finally {
    await admin.disconnect()
  }
}

function headersIn (list) {
  const headers = {}
  for (const { name, value } of list || []) {
    headers[name] = name in headers ? [].concat(headers[name], unb64(value)) : unb64(value)
  }
  return headers
}

function headersOut (headers) {
  return Object.entries(headers || {}).flatMap(([name, value]) =>
    [].concat(value).map((v) => ({ name, value: b64(v) })))
}

const ops = {
  version: async () => require('kafkajs/package.json').version,
  create: ({ topic, partitions }) => withAdmin(async (a) => {
    const created = await a.createTopics({ topics: [{ topic, numPartitions: partitions }], waitForLeaders: false })
    if (!created) throw new Error('the topic exists')
    return null
  }),
  topics: () => withAdmin(async (a) => (await a.listTopics()).sort()),
  describe: ({ topic }) => withAdmin(async (a) => {
    const { topics: [found] } = await a.fetchTopicMetadata({ topics: [topic] })
    const { resources: [config] } = await a.describeConfigs({ includeSynonyms: false, resources: [{ type: 2, name: topic }] })
    const retention = config.configEntries.find((e) => e.configName === 'retention.ms')
    return { partitions: found.partitions.length, retention: retention && retention.configValue }
  }),
  delete: ({ topic }) => withAdmin((a) => a.deleteTopics({ topics: [topic] })).then(() => null),

  produce: async ({ topic, codec, idempotent, records }) => {
    const producer = kafka.producer({ idempotent, maxInFlightRequests: 1, allowAutoTopicCreation: false })
    await producer.connect()
    try {
      const messages = records.map((r) => ({ key: unb64(r.key), value: unb64(r.value), headers: headersIn(r.headers) }))
      await producer.send({ topic, acks: -1, compression: codecs.types[codec], messages })
    } finally {
      await producer.disconnect()
    }
    return null
  },

  // Reads until count records came, commits behind the last of them and leaves.
  consume: async ({ topic, group, members, count, seconds }) => {
    const out = []
    const positions = []
    const member = async (i) => {
      const consumer = kafka.consumer({ groupId: group, maxWaitTimeInMs: 200 })
      positions[i] = new Map()
      await consumer.connect()
      await consumer.subscribe({ topics: [topic], fromBeginning: true })
      await consumer.run({
        autoCommit: false,
        eachMessage: async ({ partition, message: m }) => {
          if (members === 1 && out.length >= count) return
          positions[i].set(partition, (BigInt(m.offset) + 1n).toString())
          out.push({
            member: i, partition, offset: Number(m.offset), timestamp: Number(m.timestamp),
            key: b64(m.key), value: b64(m.value), headers: headersOut(m.headers)
          })
        }
      })
      return consumer
    }
    const consumers = await Promise.all([...Array(members).keys()].map(member))
    for (const end = Date.now() + seconds * 1000; out.length < count && Date.now() < end;) await pause(20)
    await Promise.all(consumers.map(async (consumer, i) => {
      const offsets = [...positions[i]].map(([partition, offset]) => ({ topic, partition, offset }))
      if (offsets.length > 0) await consumer.commitOffsets(offsets)
      await consumer.disconnect()
    }))
    return out
  },

  times: ({ topic, timestamp }) => withAdmin(async (a) => {
    const found = await a.fetchTopicOffsetsByTimestamp(topic, timestamp)
    const ends = new Map((await a.fetchTopicOffsets(topic)).map((p) => [p.partition, p.high]))
    // kafkajs answers the end offset where there is no such record.
    return Object.fromEntries(found.map((p) => [p.partition, p.offset === ends.get(p.partition) ? -1 : Number(p.offset)]))
  }),

  groups: () => withAdmin(async (a) => (await a.listGroups()).groups.map((g) => g.groupId).sort()),
  group: ({ group, topic }) => withAdmin(async (a) => {
    const { groups: [described] } = await a.describeGroups([group])
    const [{ partitions }] = await a.fetchOffsets({ groupId: group, topics: [topic] })
    const ends = new Map((await a.fetchTopicOffsets(topic)).map((p) => [p.partition, p.high]))
    const lag = partitions.filter((p) => Number(p.offset) >= 0).map((p) => [p.partition, Number(ends.get(p.partition)) - Number(p.offset)])
    return { state: described.state, members: described.members.length, lag: Object.fromEntries(lag) }
  }),
  delete_group: ({ group }) => withAdmin((a) => a.deleteGroups([group])).then(() => null)
}

async function serve () {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { op, args } = JSON.parse(line)
    let reply
    try {
      reply = { ok: await ops[op](args || {}) }
    } catch (e) {
      console.error(e)
      reply = { error: `${e.name}: ${e.message}` }
    }
    process.stdout.write(JSON.stringify(reply) + '\n')
  }
}

// Writes what a group reads to DIRECTORY/i.out until SIGTERM; then commits and leaves.
async function drain (topic, group, members, directory) {
  const separator = Buffer.from([0x1f])
  const newline = Buffer.from('\n')
  const member = async (i) => {
    const fd = fs.openSync(`${directory}/${i}.out`, 'a')
    const consumer = kafka.consumer({ groupId: group, maxWaitTimeInMs: 200, heartbeatInterval: 1000 })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({
      autoCommitInterval: 500,
      eachBatch: async ({ batch: { partition, messages }, heartbeat }) => {
        const parts = []
        for (const m of messages) {
          parts.push(Buffer.from(`${partition}\x1f${m.offset}\x1f`), m.key, separator, m.value, newline)
        }
        fs.writeSync(fd, Buffer.concat(parts))
        await heartbeat()
      }
    })
    return consumer
  }
  const consumers = await Promise.all([...Array(members).keys()].map(member))
  await new Promise((resolve) => process.once('SIGTERM', resolve))
  await Promise.all(consumers.map((c) => c.disconnect()))
}

async function main () {
  await codecs.install()
  if (mode === 'serve') {
    await serve()
  } else {
    const [topic, group, members, directory] = rest
    await drain(topic, group, Number(members), directory)
  }
  process.exit(0)
}

main().catch((e) => {
  console.error(e)
  process.exit(1)
})
