"""Calls to a worker per second, beside Ray's actors and tasks and beside what our own runtime stands on."""

from pathlib import Path

from lib import Comparison, Peer, Row, built, python, run_json, run_measures, version

HERE = Path(__file__).parent


def ours():
    return {name: measured["value"] for name, measured in run_json([built("air-core"), "bench", "--json"]).items()}


def ray():
    version("ray")
    return run_measures([python(), HERE / "ray_core.py"])


COMPARISON = Comparison(
    title="Core: calls to a worker",
    about="One caller, one worker whose handler does nothing. *One at a time* waits for each reply before the next call; *64 in flight* "
    "keeps 64 asked for. Ray's workloads are those of its own `ray microbenchmark`.",
    ours=ours,
    peers=[Peer("Ray", ray, package="ray")],
    rows=[
        Row("ask, one at a time", "calls/s", "ask_sync", "actor_sync", "Ray"),
        Row("ask, 64 in flight", "calls/s", "ask_async_64", "actor_async_64", "Ray"),
        Row("task, one at a time (ours: an ask)", "calls/s", "ask_sync", "task_sync", "Ray"),
        Row("task, 64 in flight (ours: an ask)", "calls/s", "ask_async_64", "task_async_64", "Ray"),
    ],
)
