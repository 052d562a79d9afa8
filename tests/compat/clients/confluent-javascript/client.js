// confluent-kafka-javascript as a client under test: see harness/process.py for the protocol.
//
// It is used through the interface that it shares with kafkajs, which tells of what was sent one base offset a partition, has
// no call for settings, and reads in groups alone.
'use strict';

const { Kafka, ErrorCodes, logLevel } = require('@confluentinc/kafka-javascript').KafkaJS;
const {
  administer, bootstrap, commands, counted, decode, encode, group, groupProtocol, other, run, say, topic, transact, transactionalId,
} = require('../node_protocol.js');

// stdout is the protocol's, so the client's log goes to stderr.
const logger = {
  ...Object.fromEntries(['info', 'warn', 'error', 'debug'].map((level) => [level, (text) => process.stderr.write(`${level} ${text}\n`)])),
  namespace: () => logger,
  setLogLevel: () => {},
};
const kafka = new Kafka({ kafkaJS: { brokers: [bootstrap], logLevel: logLevel.WARN, logger } });

async function produce() {
  const producers = new Map();
  for await (const command of commands()) {
    if (command.do === 'close') break;
    if (command.do === 'create') {
      const admin = kafka.admin();
      await admin.connect();
      await admin.createTopics({ topics: [{ topic, numPartitions: command.partitions, replicationFactor: 1 }] });
      await admin.disconnect();
      say('created');
    } else {
      if (!producers.has(command.codec)) {
        // One of them with sequence numbers, the others as the client is by default.
        const idempotent = command.codec === 'zstd';
        const producer = kafka.producer({ 'linger.ms': 5, kafkaJS: { acks: -1, compression: command.codec, idempotent } });
        await producer.connect();
        producers.set(command.codec, producer);
      }
      say('produced', { offsets: await send(producers.get(command.codec), command) });
    }
  }
  for (const producer of producers.values()) await producer.disconnect();
}

async function send(producer, { records }) {
  const messages = records.map((record) => ({
    partition: record.partition,
    key: decode(record.key),
    value: decode(record.value),
    headers: Object.fromEntries(record.headers.map(([name, data]) => [name, decode(data)])),
    timestamp: String(record.timestamp),
  }));
  const answers = await producer.send({ topic, messages });
  const next = new Map(answers.map((answer) => [answer.partition, Number(answer.baseOffset)]));
  return messages.map(({ partition }) => {
    const offset = next.get(partition);
    next.set(partition, offset + 1);
    return offset;
  });
}

function tell({ partition, message }) {
  say('record', {
    partition,
    offset: Number(message.offset),
    key: encode(message.key),
    value: encode(message.value),
    headers: Object.entries(message.headers ?? {}).map(([name, data]) => [name, encode(data)]),
    timestamp: Number(message.timestamp),
  });
}

async function consume() {
  const assignment = new Set();
  const positions = new Map();
  const consumer = kafka.consumer({
    'group.protocol': groupProtocol,
    ...(groupProtocol === 'classic' ? { 'heartbeat.interval.ms': 300 } : {}),
    kafkaJS: { groupId: group, fromBeginning: true, autoCommit: false, maxWaitTimeInMs: 500 },
    rebalance_cb: (error, partitions) => {
      for (const { partition } of partitions) {
        if (error.code === ErrorCodes.ERR__ASSIGN_PARTITIONS) assignment.add(partition);
        else assignment.delete(partition);
      }
      say('assigned', { partitions: [...assignment] });
    },
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic] });
  await consumer.run({
    eachMessage: async (given) => {
      positions.set(given.partition, Number(given.message.offset) + 1);
      tell(given);
    },
  });
  for await (const command of commands()) {
    if (command.do === 'close') break;
    const read = [...assignment].filter((partition) => positions.has(partition));
    await consumer.commitOffsets(read.map((partition) => ({ topic, partition, offset: String(positions.get(partition)) })));
    const committed = await consumer.committed([...assignment].map((partition) => ({ topic, partition })), 30000);
    say('committed', { offsets: Object.fromEntries(committed.map(({ partition, offset }) => [partition, Number(offset)])) });
  }
  await consumer.disconnect();
}

async function alone() {
  const admin = kafka.admin();
  await admin.connect();
  await administer({
    create: (partitions) => admin.createTopics({ topics: [{ topic: other, numPartitions: partitions, replicationFactor: 1 }] }),
    list: () => admin.listTopics(),
    describe: async () => {
      const [described] = await admin.fetchTopicMetadata({ topics: [other] });
      return { partitions: described.partitions.length, settings: {} };
    },
    remove: () => admin.deleteTopics({ topics: [other] }),
    seek: (command) => seek(admin, command),
  });
  await admin.disconnect();
}

// The client tells the end of a partition where nothing is so late.
async function seek(admin, { partition, timestamp, count }) {
  const [offsets, ends] = [await admin.fetchTopicOffsetsByTimestamp(topic, timestamp), await admin.fetchTopicOffsets(topic)];
  const of = (all) => all.find((one) => one.partition === partition).offset;
  if (of(offsets) === of(ends)) return null;
  const consumer = kafka.consumer({ kafkaJS: { groupId: `alone-${partition}`, fromBeginning: true, autoCommit: false } });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic] });
  const { promise, take } = counted(count, tell);
  const offset = Number(of(offsets));
  await consumer.run({
    eachMessage: async (given) => {
      if (given.partition === partition && Number(given.message.offset) >= offset) take(given);
    },
  });
  consumer.seek({ topic, partition, offset: String(offset) });
  await promise;
  await consumer.disconnect();
  return offset;
}

const FENCED = [ErrorCodes.ERR__FENCED, ErrorCodes.ERR_PRODUCER_FENCED, ErrorCodes.ERR_INVALID_PRODUCER_EPOCH];

async function transacts() {
  const producer = kafka.producer({ 'linger.ms': 5, kafkaJS: { transactionalId } });
  await producer.connect();
  let transaction;
  let consumer;
  const toMessages = (values) => values.map(([partition, value]) => ({ partition, value }));
  await transact({
    begin: async () => (transaction = await producer.transaction()),
    send: (to, values) => transaction.send({ topic: to, messages: toMessages(values) }),
    copy: async (source, groupId, count) => {
      const copied = [];
      const positions = new Map();
      consumer = reader(groupId, false);
      await reads(consumer, source, (partition, text, offset) => {
        if (copied.length === count) return true;
        copied.push([partition, text]);
        positions.set(partition, String(offset + 1));
        return copied.length === count;
      });
      await transaction.send({ topic, messages: toMessages(copied) });
      const partitions = [...positions].map(([partition, offset]) => ({ partition, offset }));
      await transaction.sendOffsets({ consumer, topics: [{ topic: source, partitions }] });
      return copied;
    },
    end: async (isCommit) => {
      try {
        await (isCommit ? transaction.commit() : transaction.abort());
        return true;
      } catch (error) {
        if (FENCED.includes(error.code)) return false;
        throw error;
      } finally {
        await consumer?.disconnect();
        consumer = undefined;
      }
    },
    read: async (level, take) => {
      const consumer = reader(`reads-${process.pid}-${++readers}`, level === 'read_uncommitted');
      await reads(consumer, topic, take);
      await consumer.disconnect();
    },
    close: () => producer.disconnect(),
  });
}

let readers = 0;

function reader(groupId, readUncommitted) {
  return kafka.consumer({
    'group.protocol': groupProtocol,
    kafkaJS: { groupId, fromBeginning: true, autoCommit: false, readUncommitted, maxWaitTimeInMs: 200 },
  });
}

// Until `take` returns true.
async function reads(consumer, from, take) {
  await consumer.connect();
  await consumer.subscribe({ topics: [from] });
  await new Promise((resolve, reject) => {
    const eachMessage = async ({ partition, message }) => {
      if (take(partition, message.value.toString(), Number(message.offset))) resolve();
    };
    consumer.run({ eachMessage }).catch(reject);
  });
}

run({ produce, consume, alone, transact: transacts });
