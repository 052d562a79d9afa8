// @platformatic/kafka as a client under test: see harness/process.py for the protocol.
'use strict';

const {
  Admin, ConfigResourceTypes, Consumer, IncrementalAlterConfigOperationTypes, MessagesStreamFallbackModes, MessagesStreamModes, ProduceAcks, Producer,
} = require('@platformatic/kafka');
const { administer, bootstrap, commands, counted, decode, encode, fail, group, groupProtocol, other, run, say, topic } = require('../node_protocol.js');

const client = { clientId: 'compat', bootstrapBrokers: [bootstrap], retries: 10, retryDelay: 200 };
const POLL_MS = 20;

async function produce() {
  const producer = new Producer(client);
  for await (const command of commands()) {
    if (command.do === 'close') break;
    if (command.do === 'create') {
      const admin = new Admin(client);
      await admin.createTopics({ topics: [topic], partitions: command.partitions, replicas: 1 });
      await admin.close();
      say('created');
    } else {
      say('produced', { offsets: await send(producer, command) });
    }
  }
  await producer.close();
}

async function send(producer, { codec, records }) {
  const messages = records.map((record) => ({
    topic,
    partition: record.partition,
    key: decode(record.key) ?? undefined,
    value: decode(record.value) ?? undefined,
    // Names are buffers, each its own key of the map: so a name can come twice.
    headers: new Map(record.headers.map(([name, data]) => [Buffer.from(name), decode(data)])),
    timestamp: BigInt(record.timestamp),
  }));
  // One of the codecs with sequence numbers, the others as the client is by default.
  const options = codec === 'zstd' ? { idempotent: true } : { acks: ProduceAcks.ALL };
  const { offsets } = await producer.send({ ...options, compression: codec, messages });
  const next = new Map(offsets.map(({ partition, offset }) => [partition, Number(offset)]));
  return messages.map(({ partition }) => {
    const offset = next.get(partition);
    next.set(partition, offset + 1);
    return offset;
  });
}

function tell(message) {
  say('record', {
    partition: message.partition,
    offset: Number(message.offset),
    key: encode(message.key),
    value: encode(message.value),
    headers: message.headerEntries.map(([name, data]) => [name.toString(), encode(data)]),
    timestamp: Number(message.timestamp),
  });
}

// One member of the group: what it was last told that it has, and the message after which it goes on in each partition.
class Member {
  constructor() {
    this.told = undefined;
    this.last = new Map();
    const timing = groupProtocol === 'classic' ? { heartbeatInterval: 300, sessionTimeout: 10000 } : {};
    this.consumer = new Consumer({ ...client, groupId: group, groupProtocol, autocommit: false, maxWaitTime: 200, ...timing });
    this.consumer.on('consumer:group:rebalance', () => this.assigned([]));
    // No event tells of what a consumer group (KIP-848) assigns.
    this.watch = setInterval(() => this.consumer.assignments && this.assigned(this.partitions()), POLL_MS);
  }

  partitions() {
    return this.consumer.assignments?.find((one) => one.topic === topic)?.partitions ?? [];
  }

  assigned(partitions) {
    const now = JSON.stringify([...partitions].sort());
    if (now === this.told) return;
    this.told = now;
    say('assigned', { partitions });
  }

  async start() {
    this.stream = await this.consumer.consume({
      topics: [topic], mode: MessagesStreamModes.COMMITTED, fallbackMode: MessagesStreamFallbackModes.EARLIEST,
    });
    this.stream.on('error', fail);
    this.stream.on('data', (message) => {
      this.last.set(message.partition, message);
      tell(message);
    });
  }

  async commit() {
    const assignment = this.partitions();
    const read = assignment.filter((partition) => this.last.has(partition)).map((partition) => this.last.get(partition));
    await this.consumer.commit({
      offsets: read.map(({ partition, offset, leaderEpoch }) => ({ topic, partition, offset: offset + 1n, leaderEpoch })),
    });
    const committed = (await this.consumer.listCommittedOffsets({ topics: [{ topic, partitions: assignment }] })).get(topic);
    say('committed', { offsets: Object.fromEntries(assignment.map((partition) => [partition, Number(committed[partition])])) });
  }

  async close() {
    clearInterval(this.watch);
    await this.stream.close();
    await this.consumer.close(true);
  }
}

async function consume() {
  const member = new Member();
  await member.start();
  for await (const command of commands()) {
    if (command.do === 'close') break;
    await member.commit();
  }
  await member.close();
}

async function alone() {
  const admin = new Admin(client);
  const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: other };
  const entries = (settings) => Object.entries(settings).map(([name, value]) => ({ name, value }));
  await administer({
    create: (partitions, settings) => admin.createTopics({ topics: [other], partitions, replicas: 1, configs: entries(settings) }),
    list: () => admin.listTopics(),
    describe: async (names) => {
      const metadata = await admin.metadata({ topics: [other], forceUpdate: true });
      const [{ configs }] = await admin.describeConfigs({ resources: [{ ...resource, configurationKeys: names }] });
      return { partitions: metadata.topics.get(other).partitionsCount, settings: Object.fromEntries(configs.map(({ name, value }) => [name, value])) };
    },
    alter: (settings) =>
      admin.incrementalAlterConfigs({
        resources: [{ ...resource, configs: entries(settings).map((entry) => ({ ...entry, configOperation: IncrementalAlterConfigOperationTypes.SET })) }],
      }),
    remove: () => admin.deleteTopics({ topics: [other] }),
    seek: (command) => seek(admin, command),
  });
  await admin.close();
}

async function seek(admin, { partition, timestamp, count }) {
  const asked = { name: topic, partitions: [{ partitionIndex: partition, timestamp: BigInt(timestamp) }] };
  const [{ partitions: [{ offset }] }] = await admin.listOffsets({ topics: [asked] });
  if (offset < 0n) return null;
  const consumer = new Consumer({ ...client, groupId: `alone-${partition}`, autocommit: false, maxWaitTime: 200 });
  const offsets = [{ topic, partition, offset }];
  const stream = await consumer.consume({ topics: [topic], mode: MessagesStreamModes.MANUAL, offsets });
  const { promise, take } = counted(count, tell);
  stream.on('error', fail);
  stream.on('data', (message) => message.partition === partition && take(message));
  await promise;
  await stream.close();
  await consumer.close(true);
  return Number(offset);
}

run({ produce, consume, alone });
