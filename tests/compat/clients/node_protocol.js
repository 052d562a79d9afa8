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

function run({ produce, consume, alone }) {
  ({ produce, consume, alone })[role]().then(() => {
    say('closed');
    // Not left to an empty event loop: a consumer that was given up keeps timers.
    process.stdout.write('', () => process.exit(0));
  }, fail);
}

module.exports = {
  administer, bootstrap, commands, counted, decode, encode, fail, group: groupOrOther, groupProtocol, other: groupOrOther, run, say, topic,
};
