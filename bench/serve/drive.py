"""Starts servers, loads them with wrk, and reads what they cost."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from lib import OUT, Failed, Missing, memory_mib, run, run_json, tree

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("AIR_BENCH_SECONDS", "10"))  # of each measurement


@dataclass(frozen=True)
class Workload:
    """A request, and what every server must answer to it."""

    name: str
    path: str
    body: bytes | None
    answer: object  # None: anything that comes with 200

    def body_file(self) -> Path:
        OUT.mkdir(exist_ok=True)
        path = OUT / f"serve-{self.name}.body"
        if not path.exists() or path.read_bytes() != self.body:
            path.write_bytes(self.body)
        return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Running:
    """A server that has answered."""

    process: subprocess.Popen
    port: int
    cold_s: float  # from its start to its first answer
    pinned: bool

    def url(self, workload: Workload) -> str:
        return f"http://127.0.0.1:{self.port}{workload.path}"

    def tree(self) -> list[int]:
        """The server's processes."""
        return tree(self.process.pid)

    def memory_mib(self) -> float:
        """Proportional set size of all its processes."""
        return memory_mib(self.tree())

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_s(self) -> float:
        """Processor time all its processes have used."""
        ticks = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(after_name[11]) + int(after_name[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def server(command, first: Workload, name, env=None, pinned=False, limit_s=120):
    """Runs a server in its own process group until `first` is answered right; at the end it is asked to stop, and its group is killed if it does not.

    `command` gets the port as `--port`. Pinned, it runs on core 0 only, and wrk on core 1.
    """
    OUT.mkdir(exist_ok=True)
    port = free_port()
    command = [str(part) for part in [*(["taskset", "-c", "0"] if pinned else []), *command, "--port", port]]
    with open(OUT / f"serve-{name}.log", "w") as log:
        start = time.monotonic()
        process = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True)
        try:
            while not answers(port, first):
                if process.poll() is not None:
                    raise Failed(f"the server ended with exit code {process.returncode}; its words are in {log.name}")
                if time.monotonic() > start + limit_s:
                    raise Failed(f"{name} did not answer {first.path} within {limit_s} s")
                time.sleep(0.002)
            yield Running(process, port, time.monotonic() - start, pinned)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port, workload: Workload) -> bool:
    """Whether the route answers yet; `Failed` where it answers something else than it should."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        method = "GET" if workload.body is None else "POST"
        connection.request(method, workload.path, workload.body, {"Content-Type": "application/json"} if workload.body else {})
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException):  # nobody listens yet
        return False
    finally:
        connection.close()
    if response.status != 200:  # a proxy listens and knows no route yet
        return False
    try:
        result = json.loads(text)
    except ValueError:
        result = text.decode(errors="replace")
    if workload.answer is not None and result != workload.answer:
        raise Failed(f"{workload.path} answered {result}, not {workload.answer}")
    return True


def wrk(running: Running, workload: Workload, connections=64, seconds=SECONDS) -> dict[str, float]:
    """Loads a route with so many connections, each sending its next request when the last one was answered."""
    if not shutil.which("wrk"):
        raise Missing("wrk is not installed (Debian: apt-get install wrk)")
    if not answers(running.port, workload):
        raise Failed(f"{workload.path} does not answer")
    pin = ["taskset", "-c", "1"] if running.pinned else []
    request = ["GET"] if workload.body is None else ["POST", workload.body_file()]
    command = [*pin, "wrk", "-t1", f"-c{connections}", "--timeout", "10s", "-s", HERE / "workload.lua", running.url(workload)]
    if seconds > 1:
        run([*command[:-1], "-d1s", command[-1], "--", *request])  # warm-up
    before = running.cpu_s()
    result = run_json([*command[:-1], f"-d{int(seconds)}s", command[-1], "--", *request])
    used = running.cpu_s() - before
    if result.pop("failed"):
        raise Failed(f"some of the requests to {running.url(workload)} failed")
    return result | {"cpu_us": 1e6 * used / max(1.0, result["requests_per_s"] * seconds)}


def prefixed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}-{key}": value for key, value in values.items()}
