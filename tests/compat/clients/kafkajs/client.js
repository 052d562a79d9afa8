// kafkajs as a client under test: see harness/process.py for the protocol.
'use strict';

const readline = require('node:readline');
const { CompressionTypes, Kafka, logLevel } = require('kafkajs');

const [role, bootstrap, topic, group] = process.argv.slice(2);

const say = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n');
const encode = (data) => (data == null ? null : Buffer.from(data).toString('base64'));
const decode = (text) => (text === null ? null : Buffer.from(text, 'base64'));

// stdout is the protocol's, so the client's log goes to stderr.
const logCreator = () => ({ namespace, log }) => process.stderr.write(`${namespace} ${JSON.stringify(log)}\n`);
const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.WARN, logCreator, retry: { initialRetryTime: 100, retries: 12 } });

async function* commands() {
  for await (const line of readline.createInterface({ input: process.stdin })) yield JSON.parse(line);
}

async function produce() {
  const producer = kafka.producer();
  await producer.connect();
  for await (const command of commands()) {
    if (command.do === 'close') break;
    if (command.do === 'create') {
      const admin = kafka.admin();
      await admin.connect();
      // kafkajs's own wait fails when Apache Kafka, which answers before it has applied it, does not know the topic yet.
      const topics = [{ topic, numPartitions: command.partitions, replicationFactor: 1 }];
      await admin.createTopics({ topics, waitForLeaders: false });
      await admin.disconnect();
      say('created');
    } else {
      say('produced', { offsets: await send(producer, command) });
    }
  }
  await producer.disconnect();
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

  take({ partition, message }) {
    this.positions.set(partition, Number(message.offset) + 1);
    say('record', {
      partition,
      offset: Number(message.offset),
      key: encode(message.key),
      value: encode(message.value),
      headers: Object.entries(message.headers ?? {}).map(([name, data]) => [name, encode(data)]),
      timestamp: Number(message.timestamp),
    });
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

const fail = (error) => {
  console.error(error);
  process.exit(1);
};

(role === 'produce' ? produce() : consume()).then(() => {
  say('closed');
  // Not left to an empty event loop: a consumer that was given up keeps timers.
  process.stdout.write('', () => process.exit(0));
}, fail);
