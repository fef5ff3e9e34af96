"""What the comparisons in bench/ are made of; bench/README.md says how to run and add one.

Each folder beside this file has a `compare.py` that defines COMPARISON, a `Comparison`: how one run of our side is measured,
how one run of each peer is measured, and the rows of the table that set the two beside each other. A measurement is a
function without arguments that returns `{name: value}` and raises `Missing` where its side cannot run on this machine.
"""

import functools
import json
import os
import subprocess
import sys
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


def run(command, env=None, limit_s=1800) -> str:
    """Runs a command from the repository's root and returns its standard output."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=limit_s)
    except FileNotFoundError:
        raise Missing(f"{command[0]} is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)}: not done after {limit_s} s") from None
    if done.returncode:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


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

