// Consume-transform-produce in transactions by kafkajs. compat's txn_clients.go
// says what the arguments are and what is printed.
//
//   node transform.js BOOTSTRAP transform IN OUT GROUP ID SEED HOLD
//   node transform.js BOOTSTRAP read TOPIC PARTITIONS
'use strict'
const { Kafka, logLevel } = require('kafkajs')

const CHUNK = 40
const [bootstrap, mode, ...args] = process.argv.slice(2)

const kafka = new Kafka({
  brokers: [bootstrap],
  clientId: 'transform',
  logLevel: logLevel.ERROR,
  logCreator: () => ({ label, log }) => console.error(label, log.message, log.error || ''),
  // A broker that is restarted is waited for.
  retry: { retries: 200, initialRetryTime: 50, maxRetryTime: 500 }
})

// Numbers from a seed, at even odds between 0 and 1 (mulberry32).
function numbers (seed) {
  return () => {
    seed = (seed + 0x6D2B79F5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

async function transform (source, out, group, id, seed, hold) {
  const random = numbers(Number(seed))
  let number = 0
  const producer = kafka.producer({ transactionalId: id, idempotent: true, maxInFlightRequests: 1, transactionTimeout: 20000 })
  const consumer = kafka.consumer({ groupId: group, sessionTimeout: 6000, heartbeatInterval: 1000, maxWaitTimeInMs: 200 })
  // Connecting aborts a transaction that is open, before the group's offsets are asked for.
  await producer.connect()
  await consumer.connect()
  await consumer.subscribe({ topics: [source], fromBeginning: true })

  async function once (partition, messages) {
    number++
    const transaction = await producer.transaction()
    const commit = random() >= 0.2
    try {
      await transaction.send({ topic: out, messages: messages.map(({ key, value }) => ({ key, value, partition })) })
      if (number === Number(hold)) {
        console.log('holding')
        await new Promise(() => {})
      }
      if (commit) {
        const offset = String(Number(messages[messages.length - 1].offset) + 1)
        await transaction.sendOffsets({ consumerGroupId: group, topics: [{ topic: source, partitions: [{ partition, offset }] }] })
        await transaction.commit()
        return true
      }
    } catch (e) {
      console.error('aborts:', e)
    }
    await transaction.abort()
    return false
  }

  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat, isRunning, isStale }) => {
      for (let i = 0; i < batch.messages.length && isRunning() && !isStale();) {
        const messages = batch.messages.slice(i, i + CHUNK)
        const committed = await once(batch.partition, messages)
        console.log(committed ? 'commit' : 'abort', number)
        if (!committed) {
          consumer.seek({ topic: source, partition: batch.partition, offset: messages[0].offset })
          return
        }
        resolveOffset(messages[messages.length - 1].offset)
        i += messages.length
        await heartbeat()
      }
    }
  })
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    console.error(payload.error)
    if (!payload.restart) process.exit(1)
  })
  process.stdin.on('end', async () => {
    await consumer.disconnect()
    await producer.disconnect()
    process.exit(0)
  }).resume()
}

async function read (topic, partitions, isolation) {
  const consumer = kafka.consumer({ groupId: `reads-${topic}-${isolation}`, readUncommitted: isolation === 'read_uncommitted', maxWaitTimeInMs: 200 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  let ended = 0
  await new Promise((resolve) => consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message: m }) => {
      if (m.value.toString() !== 'end') console.log(isolation, partition, m.offset, m.value.toString())
      else if (++ended === Number(partitions)) resolve()
    }
  }))
  await consumer.disconnect()
}

async function main () {
  if (mode === 'transform') return transform(...args)
  await read(...args, 'read_committed')
  await read(...args, 'read_uncommitted')
  process.exit(0)
}

main().catch((e) => {
  console.error(e)
  process.exit(1)
})
