// kafkajs 2.2.4: JavaScript; speaks no flexible version at all. gzip is its own, the other codecs are plug-ins.
'use strict'

const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { setTimeout: delay } = require('node:timers/promises')
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const { ZstdCodec } = require('zstd-codec')

const DEADLINE_MS = 45_000
const HOUR_MS = 3_600_000
const PARTITIONS = 4
const REPLICATION_FACTOR = Number(process.env.KLAMM_REPLICATION_FACTOR ?? 1)

const broker = process.argv[2] ?? process.env.KLAMM_BOOTSTRAP
const kafka = new Kafka({
  brokers: broker.split(','),
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 50, retries: 10 },
})
const admin = kafka.admin()
let failed = false

async function registerCodecs () {
  CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: encoder => lz4.compressFrame(encoder.buffer),
    decompress: buffer => lz4.decompressFrame(buffer),
  })
  const zstd = await new Promise(resolve => ZstdCodec.run(loaded => resolve(new loaded.Simple())))
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
    decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
  })
}

/** Runs a case on a topic of its own and reports it in the form that the runner reads. */
async function onTopic (name, body) {
  const started = process.hrtime.bigint()
  const topic = `foreign-${crypto.randomUUID()}`
  let why
  try {
    await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, replicationFactor: REPLICATION_FACTOR }], waitForLeaders: true })
    await body(topic)
    await admin.deleteTopics({ topics: [topic] })
  } catch (error) {
    console.error(error)
    why = `${error.name}: ${error.message}`.replace(/\s+/g, ' ')
    failed = true
  }
  const seconds = (Number(process.hrtime.bigint() - started) / 1e9).toFixed(2)
  console.log([why ? 'FAILED' : 'ok', name, seconds, ...(why ? [why] : [])].join('\t'))
}

/** Waits for a promise, but not for ever. */
async function within (what, promise) {
  const timer = new AbortController()
  const late = delay(DEADLINE_MS, null, { signal: timer.signal }).then(() => {
    throw new Error(`not within ${DEADLINE_MS} ms: ${what}`)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    timer.abort()
    late.catch(() => {})
  }
}

/** Records with and without keys and values, every byte, headers of several kinds; 0 to 100,000 bytes. */
function sample (count) {
  const first = Date.now() - HOUR_MS
  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
  const keys = [null, Buffer.alloc(0), Buffer.from('key'), everyByte, Buffer.from('ключ')]
  const values = [null, Buffer.alloc(0), everyByte, Buffer.alloc(5000, 'compressible '), crypto.randomBytes(1000), crypto.randomBytes(100_000)]
  const headers = [{}, { plain: Buffer.from('value') }, { twice: [Buffer.from('1'), Buffer.from('2')], empty: Buffer.alloc(0) }, { binary: everyByte }]
  return Array.from({ length: count }, (_, index) => ({
    partition: index % PARTITIONS,
    key: keys[index % keys.length],
    value: values[index % values.length],
    headers: headers[index % headers.length],
    timestamp: String(first + index * 1000),
  }))
}

async function publish (topic, messages, compression = CompressionTypes.None, idempotent = true) {
  const producer = kafka.producer({ idempotent, maxInFlightRequests: 1, allowAutoTopicCreation: false })
  await producer.connect()
  try {
    return await producer.send({ topic, messages, compression, acks: -1 })
  } finally {
    await producer.disconnect()
  }
}

const toAll = (...values) => Array.from({ length: PARTITIONS }, (_, partition) => values.map(value => ({ partition, value }))).flat()

/** A member of a group, with what it has read and which partitions it has; `until` waits for a state of it. */
async function join (group, topic) {
  const consumer = kafka.consumer({ groupId: group, sessionTimeout: 10_000, heartbeatInterval: 300, maxWaitTimeInMs: 200, allowAutoTopicCreation: false })
  const member = { consumer, read: [], assigned: [], waiters: new Set() }
  const changed = () => member.waiters.forEach(check => check())
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    member.assigned = payload.memberAssignment[topic] ?? []
    changed()
  })
  member.until = (what, condition) => within(what, new Promise(resolve => {
    const check = () => condition(member) && member.waiters.delete(check) | resolve()
    member.waiters.add(check)
    check()
  })).catch(error => {
    throw new Error(`${error.message}; it has ${member.read.length} records and partitions [${member.assigned}]`)
  })
  member.leave = () => within('leaving', consumer.disconnect())
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommitThreshold: 1,
    eachMessage: async ({ partition, message }) => {
      member.read.push({ partition, ...message })
      changed()
    },
  })
  return member
}

async function readAll (topic, count) {
  const member = await join(`group-${crypto.randomUUID()}`, topic)
  await member.until(`${count} records`, ({ read }) => read.length >= count)
  await member.leave()
  return member.read
}

const seen = read => read.map(({ partition, value }) => `${partition} ${value}`).sort()
const everywhere = (...values) => toAll(...values).map(({ partition, value }) => `${partition} ${value}`).sort()

async function createsAndLists (topic) {
  assert.ok((await admin.listTopics()).includes(topic), 'the topic is not listed')
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  assert.equal(topics[0].partitions.length, PARTITIONS, 'partitions in the metadata')
}

const publishesAndReads = compression => async topic => {
  const sent = sample(120)
  for (let first = 0; first < sent.length; first += 40) {
    for (const answer of await publish(topic, sent.slice(first, first + 40), compression)) {
      assert.equal(answer.baseOffset, String(first / PARTITIONS), `offset in partition ${answer.partition}`)
    }
  }
  const read = await readAll(topic, sent.length)
  assert.equal(read.length, sent.length, 'records read')
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const found = read.filter(message => message.partition === partition)
    const wanted = sent.filter(message => message.partition === partition)
    wanted.forEach(({ key, value, headers, timestamp }, index) => {
      const { offset, ...rest } = found[index]
      assert.equal(offset, String(index), `offset in partition ${partition}`)
      const compared = { key: rest.key, value: rest.value, headers: { ...rest.headers }, timestamp: rest.timestamp }
      assert.deepEqual(compared, { key, value, headers, timestamp }, `record ${index} of partition ${partition}`)
    })
  }
}

async function groupOfTwo (topic) {
  const group = `group-${crypto.randomUUID()}`
  const first = await join(group, topic)
  await first.until('all partitions for the first', ({ assigned }) => assigned.length === 4)
  const second = await join(group, topic)
  await second.until('half of them for the second', ({ assigned }) => assigned.length === 2)
  await first.until('half of them for the first', ({ assigned }) => assigned.length === 2)
  assert.deepEqual([...first.assigned, ...second.assigned].sort(), [0, 1, 2, 3], 'both shares together')

  await publish(topic, toAll('shared'))
  await first.until('its share of records', ({ read }) => read.length === 2)
  await second.until('its share of records', ({ read }) => read.length === 2)
  assert.deepEqual(seen([...first.read, ...second.read]), everywhere('shared'), 'records of both')

  await second.leave()
  await first.until('all partitions again', ({ assigned }) => assigned.length === 4)
  await publish(topic, toAll('alone'))
  await first.until('the last records', ({ read }) => read.length >= 6)
  assert.deepEqual(seen(first.read.slice(2)), everywhere('alone'), 'records after the second left')
  await first.leave()
}

async function comesBack (topic) {
  const group = `group-${crypto.randomUUID()}`
  await publish(topic, toAll('before', 'before too'))
  const member = await join(group, topic)
  await member.until('8 records', ({ read }) => read.length === 8)
  await member.leave()
  const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  assert.deepEqual(partitions.map(({ offset }) => offset), ['2', '2', '2', '2'], 'committed offsets')

  await publish(topic, toAll('while away'))
  const again = await join(group, topic)
  await again.until('4 records', ({ read }) => read.length >= 4)
  await again.leave()
  assert.deepEqual(seen(again.read), everywhere('while away'), 'records after coming back')
  await admin.deleteGroups([group])
}

async function seeksToOffset (topic) {
  await publish(topic, Array.from({ length: 30 }, (_, index) => ({ partition: 0, value: `${index}` })))
  const member = await join(`group-${crypto.randomUUID()}`, topic)
  await member.until('30 records', ({ read }) => read.length === 30)
  member.consumer.seek({ topic, partition: 0, offset: '17' })
  await member.until('13 more records', ({ read }) => read.length >= 43)
  await member.leave()
  assert.equal(String(member.read[30].value), '17', 'first record after the seek')
}

async function seeksToTimestamp (topic) {
  const sent = sample(30).map(message => ({ ...message, partition: 0 }))
  await publish(topic, sent)
  const asked = Number(sent[12].timestamp)
  const offsetAt = async time => (await admin.fetchTopicOffsetsByTimestamp(topic, time)).find(({ partition }) => partition === 0).offset
  assert.equal(await offsetAt(asked), '12', 'offset for a record\'s own time')
  assert.equal(await offsetAt(asked + 1), '13', 'offset for a time between two records')
  assert.equal(await offsetAt(asked - HOUR_MS), '0', 'offset for a time before all records')
  assert.equal(await offsetAt(Date.now()), '30', 'offset for a time after all records')

  const group = `group-${crypto.randomUUID()}`
  await admin.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: await offsetAt(asked) }] })
  const member = await join(group, topic)
  await member.until('18 records', ({ read }) => read.length >= 18)
  await member.leave()
  assert.deepEqual(member.read[0].value, sent[12].value, 'first record after seeking to its time')
}

async function main () {
  await registerCodecs()
  await admin.connect()
  await onTopic('create and list a topic', createsAndLists)
  for (const [name, codec] of Object.entries({ none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' })) {
    await onTopic(`publish and read back, ${name}`, publishesAndReads(CompressionTypes[codec]))
  }
  await onTopic('group of two: join, share, leave, take over', groupOfTwo)
  await onTopic('commit, leave, come back, continue', comesBack)
  await onTopic('seek to an offset', seeksToOffset)
  await onTopic('seek to a timestamp', seeksToTimestamp)
  await admin.disconnect()
  process.exit(failed ? 1 : 0)
}

main()
