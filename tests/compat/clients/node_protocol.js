// The Node clients' end of the line protocol that harness/process.py describes.
'use strict';

const readline = require('node:readline');

const [role, bootstrap, topic, groupOrOther] = process.argv.slice(2);
const groupProtocol = process.env.GROUP_PROTOCOL;

const say = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n');
const encode = (data) => (data == null ? null : Buffer.from(data).toString('base64'));
const decode = (text) => (text === null ? null : Buffer.from(text, 'base64'));

async function* commands() {
  for await (const line of readline.createInterface({ input: process.stdin })) yield JSON.parse(line);
}

const fail = (error) => {
  console.error(error);
  process.exit(1);
};

// Obeys the commands of one that is alone, with the client's own functions: `seek` returns the offset or null.
async function administer({ create, list, describe, alter, remove, seek }) {
  for await (const command of commands()) {
    switch (command.do) {
      case 'close':
        return;
      case 'create':
        await create(command.partitions, command.settings);
        say('created');
        break;
      case 'list':
        say('listed', { topics: await list() });
        break;
      case 'describe':
        say('described', await describe(command.settings));
        break;
      case 'alter':
        await alter(command.settings);
        say('altered');
        break;
      case 'delete':
        await remove();
        say('deleted');
        break;
      case 'seek':
        say('sought', { offset: await seek(command) });
        break;
    }
  }
}

// Obeys the commands of one with transactions, with the client's own functions: `end` returns whether it was not fenced, and
// `read` gives `take` each record of the topic until that returns true.
async function transact({ begin, send, copy, end, read, close }) {
  say('ready');
  for await (const command of commands()) {
    switch (command.do) {
      case 'close':
        await close();
        return;
      case 'begin':
        await begin();
        say('begun');
        break;
      case 'send':
        await send(command.topic, command.values);
        say('sent');
        break;
      case 'copy':
        say('copied', { values: await copy(command.source, command.group, command.count) });
        break;
      case 'read': {
        const values = [];
        const left = new Set(Array(command.partitions).keys());
        await read(command.level, (partition, text) => {
          if (left.has(partition)) {
            values.push([partition, text]);
            if (text === command.until) left.delete(partition);
          }
          return left.size === 0;
        });
        say('read', { values });
        break;
      }
      default:
        say((await end(command.do === 'commit')) ? 'ended' : 'fenced');
    }
  }
}

// A promise that is kept when `tell` was called `count` times; later calls are let go.
function counted(count, tell) {
  let done;
  const promise = new Promise((resolve) => (done = resolve));
  let left = count;
  const take = (...what) => {
    if (left === 0) return;
    tell(...what);
    left -= 1;
    if (left === 0) done();
  };
  return { promise, take };
}

function run(roles) {
  roles[role]().then(() => {
    say('closed');
    // Not left to an empty event loop: a consumer that was given up keeps timers.
    process.stdout.write('', () => process.exit(0));
  }, fail);
}

module.exports = {
  administer, bootstrap, commands, counted, decode, encode, fail, group: groupOrOther, groupProtocol, other: groupOrOther, run, say, topic,
  transact, transactionalId: groupOrOther,
};
