#!/usr/bin/env python3
"""Our server under hours of everything at once: right clients, rude clients, broken clients. Memory and descriptors must stay flat, and no answer be wrong.

    python3 bench/serve/soak.py                # 10 minutes
    python3 bench/serve/soak.py --minutes 3

It starts `bench_serve` on loopback, and loads it for that long with

- two open loops at a fixed rate (`air-serve load`), whose every answer is compared to the byte;
- clients that send a different request each time and check the answer;
- clients that close in the middle of a body or right after a request, that read an answer byte by byte, that connect and say nothing or half a
  head, that send nonsense, bodies that are too large, and many requests at once.

Then all clients leave. It fails (exit code 1) if an answer was wrong or missing, if a broken client was not told off or cut off, if memory grew
between the second and the last quarter, or if a descriptor or a connection was left over.
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare import BATCH, IRIS
from drive import server
from lib import built

GROWTH_MIB = 4.0  # what an allocator may keep more of, by chance
PATIENCE_S = 60  # the server cuts off silent clients after 30 s


class Wrong(Exception):
    """An answer that is not the right one."""


class Soak:
    def __init__(self, running, rng):
        self.running = running
        self.rng = rng
        self.done = Counter()
        self.wrong: list[str] = []
        self.end = 0.0

    async def open(self):
        return await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.running.port), 30)

    async def ask(self, reader, writer, path, body: bytes):
        """One request on an open connection: the status and the body of its answer."""
        writer.write(f"POST {path} HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        return await self.answer(reader)

    async def answer(self, reader):
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        lines = head.decode().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:"))
        return int(lines[0].split()[1]), await asyncio.wait_for(reader.readexactly(length), PATIENCE_S)

    async def forever(self, name, client):
        """Runs a client over and over until the end; what it finds wrong is kept."""
        while time.monotonic() < self.end:
            try:
                await client()
                self.done[name] += 1
            except (Wrong, OSError, EOFError, asyncio.TimeoutError, ValueError, StopIteration) as error:
                self.wrong.append(f"{name}: {type(error).__name__}: {error}")
                await asyncio.sleep(0.1)

    @contextlib.asynccontextmanager
    async def connection(self):
        reader, writer = await self.open()
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    # Clients whose every answer must be right.

    async def echo(self):
        async with self.connection() as (reader, writer):
            for _ in range(50):
                value = {"id": self.rng.random(), "list": [self.rng.randrange(1 << 40) for _ in range(self.rng.randrange(200))], "text": "ä€𝄞\n" * 3}
                status, body = await self.ask(reader, writer, "/echo", json.dumps(value).encode())
                if status != 200 or json.loads(body) != value:
                    raise Wrong(f"{status} {body[:200]}")

    async def batch(self):
        async with self.connection() as (reader, writer):
            for _ in range(50):
                x = self.rng.random()
                status, body = await self.ask(reader, writer, "/batch", json.dumps({"x": x}).encode())
                if status != 200 or json.loads(body) != {"y": 2 * x}:
                    raise Wrong(f"{status} {body[:200]}")

    async def pipelined(self):
        async with self.connection() as (reader, writer):
            numbers = [self.rng.randrange(1 << 40) for _ in range(20)]
            for number in numbers:
                body = str(number).encode()
                writer.write(f"POST /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            for number in numbers:
                status, body = await self.answer(reader)
                if status != 200 or int(body) != number:
                    raise Wrong(f"{status} {body[:200]} to {number}")

    async def large(self):
        async with self.connection() as (reader, writer):
            length = self.rng.randrange(1_000_000, 8_000_000)
            status, body = await self.ask(reader, writer, "/bytes", b'"' + b"x" * length + b'"')
            if status != 200 or int(body) != length:
                raise Wrong(f"{status} {body[:200]} to {length} bytes")
        await asyncio.sleep(0.2)

    # Clients that break something; the server may answer as it likes, but must say so or hang up.

    async def abort_body(self):
        async with self.connection() as (_, writer):
            writer.write(b"POST /batch HTTP/1.1\r\nHost: soak\r\nContent-Length: 1000\r\n\r\n" + b"x" * self.rng.randrange(999))
            await writer.drain()
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def abort_answer(self):
        async with self.connection() as (_, writer):
            writer.write(b'POST /batch HTTP/1.1\r\nHost: soak\r\nContent-Length: 9\r\n\r\n{"x":1.0}')
            await writer.drain()
            await asyncio.sleep(self.rng.random() * 0.01)
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def slow_reader(self):
        async with self.connection() as (reader, writer):
            body = json.dumps("y" * 200_000).encode()
            writer.write(f"POST /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            for _ in range(40):
                if not await asyncio.wait_for(reader.read(self.rng.randrange(1, 200)), PATIENCE_S):
                    raise Wrong("closed in the middle of an answer")
                await asyncio.sleep(0.05)

    async def half_open(self):
        """Connects and says nothing, or half a head: the server must hang up."""
        async with self.connection() as (reader, writer):
            writer.write(b"POST /echo HTTP/1.1\r\nHost: so"[: self.rng.randrange(30)])
            await writer.drain()
            await asyncio.wait_for(reader.read(), PATIENCE_S)

    async def nonsense(self):
        async with self.connection() as (reader, writer):
            writer.write(self.rng.randbytes(self.rng.randrange(1, 500)) + b"\r\n\r\n")
            text = await asyncio.wait_for(reader.read(), PATIENCE_S)
            if text and not text.startswith(b"HTTP/1.1 4"):
                raise Wrong(f"{text[:200]}")
        await asyncio.sleep(0.01)

    async def too_large(self):
        async with self.connection() as (reader, writer):
            writer.write(b"POST /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: 1000000000\r\n\r\n")
            status, _ = await self.answer(reader)
            if status != 413:
                raise Wrong(f"{status} to a body of a gigabyte")
        await asyncio.sleep(0.05)

    async def run(self, minutes):
        self.end = time.monotonic() + 60 * minutes
        clients = [(self.echo, 4), (self.batch, 16), (self.pipelined, 2), (self.large, 1), (self.abort_body, 2), (self.abort_answer, 4),
                   (self.slow_reader, 8), (self.half_open, 50), (self.nonsense, 2), (self.too_large, 1)]
        await asyncio.gather(*(self.forever(client.__name__, client) for client, count in clients for _ in range(count)))


def open_loop(running, workload, rate, minutes, expect):
    command = [built("air-serve"), "load", running.url(workload), "--rate", rate, "--duration", 60 * minutes, "--connections", 64, "--timeout", 30, "--json",
               "--body", workload.body.decode(), "--expect", expect]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)


def connections(running) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics", timeout=30) as answer:
        line = next(line for line in answer.read().decode().splitlines() if line.startswith("air_serve_connections "))
    return int(float(line.split()[1])) - 1  # without the one that asks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=1000, help="requests a second of each open loop (1000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not 0 < options.minutes <= 240:
        parser.error("--minutes must be above 0 and at most 240")
    samples, problems = [], []
    with server([built("bench_serve"), "--threads", 2], IRIS, "soak") as running:
        soak = Soak(running, random.Random(options.seed))
        before = running.descriptors()
        loops = [open_loop(running, IRIS, options.rate, options.minutes, '{"result":"versicolor"}'),
                 open_loop(running, BATCH, options.rate, options.minutes, '{"y":4.0}')]

        async def watched():
            task = asyncio.create_task(soak.run(options.minutes))
            while not task.done():
                samples.append((round(running.memory_mib(), 1), running.descriptors()))
                await asyncio.wait([task], timeout=60 * options.minutes / 100)
            await task

        asyncio.run(watched())
        loads = [json.loads(loop.communicate(timeout=120)[0]) for loop in loops]
        left_until = time.monotonic() + PATIENCE_S
        while (left := connections(running)) and time.monotonic() < left_until:
            time.sleep(0.2)
        after = running.descriptors()
        if running.process.poll() is not None:
            problems.append("the server ended")
    quarter = len(samples) // 4
    early, late = (statistics.median(memory for memory, _ in part) for part in (samples[quarter : 2 * quarter], samples[-quarter:]))
    problems += soak.wrong[:20]
    problems += [f"{load['url']}: {kind} {count}" for load in loads for kind, count in load["errors"].items() if count]
    problems += [f"{load['url']}: {status['count']} answers of status {code}" for load in loads for code, status in load["statuses"].items() if code != "200"]
    if late > early + GROWTH_MIB:
        problems.append(f"memory grew from {early} to {late} MiB")
    if left or after > before:
        problems.append(f"{left} connections and {after - before} descriptors are left over")
    report = {
        "minutes": options.minutes,
        "clients": dict(soak.done),
        "open_loop_ok": [load["ok"] for load in loads],
        "open_loop_p99_ms": [load["latency_ms"]["p99"] for load in loads],
        "wrong": len(soak.wrong),
        "memory_mib": {"second_quarter": early, "last_quarter": late, "most": max(memory for memory, _ in samples),
                       "over_time": [memory for memory, _ in samples[:: max(1, len(samples) // 20)]]},
        "descriptors": {"before": before, "most": max(count for _, count in samples), "after": after},
        "problems": problems,
    }
    print(json.dumps(report, indent=1))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
