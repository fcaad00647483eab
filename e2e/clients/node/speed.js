// Asks one member as much as gRPC for Node can, over one connection that also carries a watch.
//
// Usage: node speed.js http://HOST:PORT SECONDS
// Ends with 0 and a line per claim when every call was answered, and with 1 and the reason otherwise. Requests are
// written by hand, so that gRPC is all it needs.
"use strict";

const grpc = require("@grpc/grpc-js");

const CALLERS = 64;
const WATCHES = 20_000;
const RENEWALS = 16_000;

function varint(number) {
  const bytes = [];
  let rest = BigInt(number);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

// One field of a message: text, a message, or a number.
function field(number, value) {
  if (typeof value === "number" || typeof value === "bigint") {
    return Buffer.concat([varint(number << 3), varint(value)]);
  }
  const bytes = Buffer.from(value);
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

// The numbers and parts of a message's first level.
function fields(message) {
  let at = 0;
  const read = () => {
    let number = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at++];
      number |= BigInt(byte & 127) << shift;
      if (byte < 128) return number;
    }
  };
  const found = {};
  while (at < message.length) {
    const tag = Number(read());
    if ((tag & 7) === 0) {
      found[tag >> 3] = read();
    } else {
      const length = Number(read());
      found[tag >> 3] = message.subarray(at, (at += length));
    }
  }
  return found;
}

const same = (bytes) => bytes;

class Stream {
  constructor(client, path) {
    this.waiting = 0;
    this.call = client.makeBidiStreamRequest(path, same, same);
    this.call.on("data", () => --this.waiting === 0 && this.done());
    this.call.on("error", (error) => this.failed?.(error));
  }

  // Sends messages without waiting, and waits for as many answers.
  exchange(messages, answers = messages.length) {
    return new Promise((done, failed) => {
      [this.done, this.failed] = [done, failed];
      this.waiting += answers;
      for (const message of messages) this.call.write(message);
    });
  }
}

async function main([endpoint, seconds]) {
  const client = new grpc.Client(endpoint.replace("http://", ""), grpc.credentials.createInsecure());
  const call = (path, request) =>
    new Promise((done, failed) =>
      client.makeUnaryRequest(path, same, same, request, (error, answer) => (error ? failed(error) : done(answer))),
    );
  const key = (number) => field(1, `key-${number}`);
  const put = (number) => call("/etcdserverpb.KV/Put", Buffer.concat([key(number), field(2, "v")]));
  const get = (number) => call("/etcdserverpb.KV/Range", key(number));
  const atOnce = async (work) => {
    const until = Date.now() + Number(seconds) * 1000;
    let done = 0;
    const caller = async (_, number) => {
      for (; Date.now() < until; done++) await work(number);
    };
    await Promise.all(Array.from({ length: CALLERS }, caller));
    return done;
  };

  const watch = new Stream(client, "/etcdserverpb.Watch/Watch");
  await watch.exchange([field(1, field(1, "watched"))]);
  console.log(`ok ${await atOnce(put)} puts were answered`);
  console.log(`ok ${await atOnce(get)} gets were answered`);
  await watch.exchange(Array.from({ length: WATCHES }, (_, number) => field(1, key(number))));
  console.log(`ok ${WATCHES} watches were created at once`);
  const lease = fields(await call("/etcdserverpb.Lease/LeaseGrant", field(1, 600)))[2];
  const renewals = new Stream(client, "/etcdserverpb.Lease/LeaseKeepAlive");
  await renewals.exchange(Array(RENEWALS).fill(field(1, lease)));
  console.log(`ok ${RENEWALS} renewals were answered at once`);
  const told = watch.exchange([], 1);
  await call("/etcdserverpb.KV/Put", Buffer.concat([field(1, "watched"), field(2, "v")]));
  await told;
  console.log("ok the watch lived through all of it");
  process.exit(0);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
