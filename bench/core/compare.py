"""Calls to a worker per second, beside Ray's actors and tasks and beside what our own runtime stands on."""

from pathlib import Path

from lib import Comparison, Peer, Row, built, python, run_json, run_measures, version

HERE = Path(__file__).parent


def ours():
    return {name: measured["value"] for name, measured in run_json([built("air-core"), "bench", "--json"]).items()}


def ray():
    version("ray")
    return run_measures([python(), HERE / "ray_core.py"])


def rows():
    for ours, many in (("sync", "one at a time"), ("async_64", "64 in flight")):
        for what, name in (("actor", "actor calls"), ("task", "tasks")):
            yield Row(f"ask, {many}", "calls/s", f"ask_{ours}", f"{what}_{ours}", "Ray", against=name)
        for bare in ("actix", "tokio", "crossbeam"):
            yield Row(f"ask, {many}", "calls/s", f"ask_{ours}", f"bare_{bare}_{ours}", against=f"bare {bare}", floor=0.8, note=BARE[bare])


BARE = {
    "actix": "an actix mailbox: what our workers stand on, without exits, restarts, deadlines or a bound on asks",
    "tokio": "tokio's mpsc channel with a oneshot for the reply",
    "crossbeam": "a crossbeam channel with another for the reply: two threads and nothing else",
}
COMPARISON = Comparison(
    title="Core: calls to a worker",
    about="One caller, one worker on another thread whose handler does nothing. *One at a time* waits for each reply before the next "
    "call; *64 in flight* keeps 64 asked for. Ray's workloads are those of its own `ray microbenchmark`. The bare libraries run the same "
    "loop in our process (`air-core bench`): they are what lies underneath, so about 1× is the aim.",
    ours=ours,
    peers=[Peer("Ray", ray, package="ray")],
    rows=list(rows()),
)
