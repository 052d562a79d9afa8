// kafkajs as a client under test: see harness/process.py for the protocol.
'use strict';

const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs');
const {
  administer, bootstrap, commands, counted, decode, encode, fail, group, other, run, say, topic, transact, transactionalId,
} = require('../node_protocol.js');

// stdout is the protocol's, so the client's log goes to stderr.
const logCreator = () => ({ namespace, log }) => process.stderr.write(`${namespace} ${JSON.stringify(log)}\n`);
const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.WARN, logCreator, retry: { initialRetryTime: 100, retries: 12 } });

async function produce() {
  const producer = kafka.producer();
  await producer.connect();
  for await (const command of commands()) {
    if (command.do === 'close') break;
    if (command.do === 'create') {
      const admin = kafka.admin();
      await admin.connect();
      await create(admin, topic, command.partitions, {});
      await admin.disconnect();
      say('created');
    } else {
      say('produced', { offsets: await send(producer, command) });
    }
  }
  await producer.disconnect();
}

async function create(admin, name, partitions, settings) {
  const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }));
  const topics = [{ topic: name, numPartitions: partitions, replicationFactor: 1, configEntries }];
  // kafkajs's own wait fails when Apache Kafka, which answers before it has applied it, does not know the topic yet.
  await admin.createTopics({ topics, waitForLeaders: false });
}

async function send(producer, { codec, records }) {
  const messages = records.map((record) => ({
    partition: record.partition,
    key: decode(record.key),
    value: decode(record.value),
    headers: Object.fromEntries(record.headers.map(([name, data]) => [name, decode(data)])),
    timestamp: String(record.timestamp),
  }));
  const compression = codec === 'gzip' ? CompressionTypes.GZIP : CompressionTypes.None;
  const answers = await producer.send({ topic, acks: -1, compression, messages });
  // One base offset for each partition: its records follow from there in the order they were given.
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

// One member of the group: what it was assigned, and the position after the last record of each partition.
class Member {
  constructor() {
    this.assignment = [];
    this.positions = new Map();
  }

  // kafkajs gives a consumer up when the broker refuses its connection while it looks for the coordinator
  // (a crash that it does not restart from): then its user has to start another, as after the broker's restart.
  // The one given up may not have left the group, which goes on without it after the session timeout.
  async start() {
    this.consumer = kafka.consumer({ groupId: group, heartbeatInterval: 300, sessionTimeout: 10000, maxWaitTimeInMs: 500 });
    const { GROUP_JOIN, REBALANCING, CRASH } = this.consumer.events;
    this.consumer.on(GROUP_JOIN, ({ payload }) => this.assigned(payload.memberAssignment[topic] ?? []));
    this.consumer.on(REBALANCING, () => this.assigned([]));
    this.consumer.on(CRASH, ({ payload }) => payload.restart || this.start().catch(fail));
    await this.consumer.connect();
    await this.consumer.subscribe({ topics: [topic], fromBeginning: true });
    await this.consumer.run({ autoCommit: false, eachMessage: async (given) => this.take(given) });
  }

  assigned(partitions) {
    this.assignment = partitions;
    say('assigned', { partitions });
  }

  take(given) {
    this.positions.set(given.partition, Number(given.message.offset) + 1);
    tell(given);
  }

  async commit(admin) {
    const read = this.assignment.filter((partition) => this.positions.has(partition));
    await this.consumer.commitOffsets(
      read.map((partition) => ({ topic, partition, offset: String(this.positions.get(partition)) })),
    );
    const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
    const committed = partitions.filter(({ partition }) => this.assignment.includes(partition));
    say('committed', { offsets: Object.fromEntries(committed.map(({ partition, offset }) => [partition, Number(offset)])) });
  }
}

async function consume() {
  const admin = kafka.admin();
  await admin.connect();
  const member = new Member();
  await member.start();
  for await (const command of commands()) {
    if (command.do === 'close') break;
    await member.commit(admin);
  }
  await Promise.all([member.consumer.disconnect(), admin.disconnect()]);
}

async function alone() {
  const admin = kafka.admin();
  await admin.connect();
  const resource = { type: ConfigResourceTypes.TOPIC, name: other };
  await administer({
    create: (partitions, settings) => create(admin, other, partitions, settings),
    list: () => admin.listTopics(),
    describe: async (names) => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [other] });
      const { resources } = await admin.describeConfigs({ resources: [{ ...resource, configNames: names }], includeSynonyms: false });
      const settings = Object.fromEntries(resources[0].configEntries.map((entry) => [entry.configName, entry.configValue]));
      return { partitions: topics[0].partitions.length, settings };
    },
    alter: (settings) =>
      admin.alterConfigs({
        validateOnly: false,
        resources: [{ ...resource, configEntries: Object.entries(settings).map(([name, value]) => ({ name, value })) }],
      }),
    remove: () => admin.deleteTopics({ topics: [other] }),
    seek: (command) => seek(admin, command),
  });
  await admin.disconnect();
}

// kafkajs reads in groups alone, and tells the end of a partition where nothing is so late.
async function seek(admin, { partition, timestamp, count }) {
  const [offsets, ends] = [await admin.fetchTopicOffsetsByTimestamp(topic, timestamp), await admin.fetchTopicOffsets(topic)];
  const of = (all) => all.find((one) => one.partition === partition).offset;
  if (of(offsets) === of(ends)) return null;
  const consumer = kafka.consumer({ groupId: `alone-${partition}`, maxWaitTimeInMs: 500 });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  const { promise, take } = counted(count, tell);
  const offset = Number(of(offsets));
  await consumer.run({
    autoCommit: false,
    eachMessage: async (given) => {
      if (given.partition === partition && Number(given.message.offset) >= offset) take(given);
    },
  });
  consumer.seek({ topic, partition, offset: String(offset) });
  await promise;
  await consumer.disconnect();
  return offset;
}

async function transacts() {
  const producer = kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  let transaction;
  let consumer;
  const toMessages = (values) => values.map(([partition, value]) => ({ partition, value }));
  await transact({
    begin: async () => (transaction = await producer.transaction()),
    send: (to, values) => transaction.send({ topic: to, acks: -1, messages: toMessages(values) }),
    copy: async (source, groupId, count) => {
      const copied = [];
      const positions = new Map();
      consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 200 });
      await reads(consumer, source, (partition, text, offset) => {
        if (copied.length === count) return true;
        copied.push([partition, text]);
        positions.set(partition, String(offset + 1));
        return copied.length === count;
      });
      await transaction.send({ topic, acks: -1, messages: toMessages(copied) });
      const partitions = [...positions].map(([partition, offset]) => ({ partition, offset }));
      await transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic: source, partitions }] });
      return copied;
    },
    end: async (isCommit) => {
      try {
        await (isCommit ? transaction.commit() : transaction.abort());
        return true;
      } catch (error) {
        if (['INVALID_PRODUCER_EPOCH', 'PRODUCER_FENCED'].includes(error.type)) return false;
        throw error;
      } finally {
        await consumer?.disconnect();
        consumer = undefined;
      }
    },
    read: async (level, take) => {
      const reader = kafka.consumer({ groupId: `reads-${process.pid}-${++readers}`, readUncommitted: level === 'read_uncommitted', maxWaitTimeInMs: 200 });
      await reads(reader, topic, take);
      await reader.disconnect();
    },
    close: () => producer.disconnect(),
  });
}

let readers = 0;

// Until `take` returns true.
async function reads(consumer, from, take) {
  await consumer.connect();
  await consumer.subscribe({ topics: [from], fromBeginning: true });
  await new Promise((resolve, reject) => {
    const eachMessage = async ({ partition, message }) => {
      if (take(partition, message.value.toString(), Number(message.offset))) resolve();
    };
    consumer.run({ autoCommit: false, eachMessage }).catch(reject);
  });
}

run({ produce, consume, alone, transact: transacts });
