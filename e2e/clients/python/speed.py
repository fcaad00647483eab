"""Asks one member as much as gRPC's C core can, over one connection that also carries a watch.

Usage: speed.py http://HOST:PORT SECONDS
Ends with 0 and a line per claim when every call was answered, and with 1 and the reason otherwise. Requests are written
by hand, so that gRPC is all it needs.
"""

import os
import queue
import sys
import threading
import time

import grpc

CALLERS = 32
WATCHES = 20_000
RENEWALS = 16_000

def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)

def field(number, value):
    """One field of a message: bytes, a message, or a number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value

def fields(message):
    """The numbers of a message's first level."""
    at = 0

    def read():
        nonlocal at
        number = shift = 0
        while True:
            byte = message[at]
            at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    found = {}
    while at < len(message):
        tag = read()
        if tag & 7 == 0:
            found[tag >> 3] = read()
        else:
            length = read()
            found[tag >> 3] = message[at : at + length]
            at += length
    return found

class Stream:
    """A stream of requests, sent without waiting for an answer."""

    def __init__(self, channel, path):
        self.requests = queue.SimpleQueue()
        self.answers = channel.stream_stream(path)(iter(self.requests.get, None))

    def send(self, message):
        self.requests.put(message)

    def take(self, count):
        for _ in range(count):
            next(self.answers)

def at_once(call, seconds):
    """Repeats a call from many threads, and returns how many were answered."""
    until = time.monotonic() + seconds
    counts, failures = [0] * CALLERS, []

    def caller(number):
        try:
            while time.monotonic() < until and not failures:
                call(number)
                counts[number] += 1
        except Exception as failure:  # Told below, and ends the program.
            failures.append(failure)

    threads = [threading.Thread(target=caller, args=[number]) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts)

def main():
    target, seconds = sys.argv[1].removeprefix("http://"), float(sys.argv[2])
    channel = grpc.insecure_channel(target)
    unary = lambda path: channel.unary_unary(path)
    put, get = unary("/etcdserverpb.KV/Put"), unary("/etcdserverpb.KV/Range")

    watch = Stream(channel, "/etcdserverpb.Watch/Watch")
    watch.send(field(1, field(1, b"watched")))
    watch.take(1)

    key = lambda number: field(1, b"key-%d" % number)
    done = at_once(lambda number: put(key(number) + field(2, b"v")), seconds)
    print(f"ok {done} puts were answered", flush=True)
    done = at_once(lambda number: get(key(number)), seconds)
    print(f"ok {done} gets were answered", flush=True)

    for number in range(WATCHES):
        watch.send(field(1, key(number)))
    watch.take(WATCHES)
    print(f"ok {WATCHES} watches were created at once", flush=True)

    granted = unary("/etcdserverpb.Lease/LeaseGrant")(field(1, 600))
    lease = fields(granted)[2]
    renewals = Stream(channel, "/etcdserverpb.Lease/LeaseKeepAlive")
    for _ in range(RENEWALS):
        renewals.send(field(1, lease))
    renewals.take(RENEWALS)
    print(f"ok {RENEWALS} renewals were answered at once", flush=True)

    put(field(1, b"watched") + field(2, b"v"))
    watch.take(1)
    print("ok the watch lived through all of it", flush=True)

main()
# Threads of gRPC that wait for the open streams would keep the program.
os._exit(0)
