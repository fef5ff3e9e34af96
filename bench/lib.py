"""What the comparisons in bench/ are made of; bench/README.md says how to run and add one.

Each folder beside this file has a `compare.py` that defines COMPARISON, a `Comparison`: how one run of our side is measured,
how one run of each peer is measured, and the rows of the table that set the two beside each other. A measurement is a
function without arguments that returns `{name: value}` and raises `Missing` where its side cannot run on this machine.
"""

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
OUT = BENCH / "out"

Measure = Callable[[], dict[str, float]]


class Missing(Exception):
    """A side that cannot run here, and what it lacks."""


class Failed(Exception):
    """A side that ran and did not finish its work."""


@dataclass(frozen=True)
class Peer:
    """Another system on the same work."""

    name: str
    measure: Measure
    package: str | None = None  # the Python package it needs; its version is shown beside the name
    asks: Callable[[], str] | None = None  # how its version is asked for, where it is no Python package

    def version(self) -> str:
        """The version that is installed; `Missing` where none is."""
        if self.asks:
            return self.asks()
        return version(self.package) if self.package else ""


@dataclass(frozen=True)
class Row:
    """One line of a table: a value of ours beside a value of a peer's."""

    label: str
    unit: str
    ours: str  # key in what our measurement returns
    theirs: str  # key in what the peer's returns
    peer: str | None = None  # the peer's name; None: `theirs` is measured in our own process
    against: str = ""  # what of the peer's is meant, where its name alone does not say
    higher_is_better: bool = True
    floor: float = 5.0  # the ratio we claim; a lower one is marked
    note: str = ""  # why a ratio is what it is


@dataclass(frozen=True)
class Comparison:
    title: str
    about: str  # the work, in a sentence or two: what is done, how often, how both sides are kept alike
    ours: Measure
    rows: list[Row]
    peers: list[Peer] = field(default_factory=list)


def run(command, env=None, limit_s=1800, started: Callable[[int], None] = lambda pid: None) -> str:
    """Runs a command from the repository's root and returns its standard output; `started` is told its process."""
    command = [str(part) for part in command]
    try:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise Missing(f"{command[0]} is not on this machine") from None
    started(process.pid)
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Failed(f"{' '.join(command)}: not done after {limit_s} s") from None
    if process.returncode:
        raise Failed(f"{' '.join(command)}: exit {process.returncode}: {err.strip()[-500:]}")
    return out


def run_json(command, **options):
    """Runs a command that prints one JSON value, or several, one a line; returns the last."""
    text = run(command, **options)
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        lines = [line for line in text.splitlines() if line.startswith(("{", "["))]
        if not lines:
            raise Failed(f"{command[0]} printed no JSON: {text[-300:]}") from None
        return json.loads(lines[-1])


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found, open_ = [], [pid]
    while open_:
        found.append(open_.pop())
        open_ += children.get(found[-1], [])
    return found


def memory_mib(pids: list[int]) -> float:
    """Proportional set size of processes: what they share is counted once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[1])
    return total / 1024


def marks_mib(pid: int) -> dict[str, float]:
    """What the kernel has counted of a process's memory all along (`VmHWM`, `RssAnon`, …), which costs the process nothing to read."""
    with contextlib.suppress(OSError):
        return {name: int(kib) / 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)}
    return {}


def run_watched(command, several=False, **options) -> tuple[dict, float]:
    """Runs a command that prints JSON, and looks at its memory meanwhile: what it printed, and the peak in MiB. `several`: it works in processes that
    it starts; then what each has to itself, and once the most that any maps of what they share. (Proportional set sizes would be exact, but the kernel
    walks page tables for them, and whoever maps memory waits.)"""
    peak, over = 0.0, threading.Event()

    def together(pid):
        marks = [marks_mib(pid) for pid in tree(pid)]
        most = lambda name: max((of.get(name, 0.0) for of in marks), default=0.0)
        return sum(of.get("RssAnon", 0.0) for of in marks) + most("RssShmem") + most("RssFile")

    def watch(pid):
        nonlocal peak
        while not over.is_set():
            peak = max(peak, together(pid) if several else marks_mib(pid).get("VmHWM", 0.0))
            over.wait(0.2 if several else 0.02)

    def started(pid):
        threading.Thread(target=watch, args=(pid,), daemon=True).start()

    try:
        return run_json(command, started=started, **options), peak
    finally:
        over.set()


def run_measures(command, **options) -> dict[str, float]:
    """Runs a command that prints JSON lines {"name": …, "value": …}; returns them as one dict."""
    rows = [json.loads(line) for line in run(command, **options).splitlines() if line.startswith("{")]
    return {row["name"]: row["value"] for row in rows}


@functools.cache
def built(name: str) -> Path:
    """The release binary or example of this workspace with that name."""
    if name not in executables():
        raise Missing(f"cargo built no executable {name}")
    return executables()[name]


@functools.cache
def executables() -> dict[str, Path]:
    """Builds every binary and example, in one call: package by package cargo would compile shared dependencies anew for each set of features."""
    if there := os.environ.get("AIR_BENCH_BUILT"):
        return {path.name: path for folder in (Path(there), Path(there) / "examples") for path in folder.iterdir() if path.is_file() and os.access(path, os.X_OK)}
    command = ["cargo", "build", "--release", "--workspace", "--bins", "--examples", "--message-format", "json"]
    artifacts = (json.loads(line) for line in run(command, limit_s=7200).splitlines() if line.startswith("{"))
    return {artifact["target"]["name"]: Path(artifact["executable"]) for artifact in artifacts if artifact.get("executable")}


def python() -> Path:
    """The Python that has the peers: $AIR_BENCH_PYTHON, else .venv-bench/, else the one running this."""
    here = ROOT / ".venv-bench" / "bin" / "python"
    return Path(os.environ.get("AIR_BENCH_PYTHON") or (here if here.exists() else sys.executable))


@functools.cache
def version(package: str) -> str:
    """The installed version of a peer's Python package; `Missing` where it is not installed."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    try:
        return run([python(), "-c", code]).strip()
    except (Failed, Missing):
        raise Missing(f"{package} is not installed (bench/requirements.txt)") from None


def peer_script(path: Path, *args, package: str, **options):
    """Runs a peer's Python script; returns the last JSON value it prints."""
    version(package)
    return run_json([python(), path, *args], **options)

