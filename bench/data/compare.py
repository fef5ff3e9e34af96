"""`map_batches` over 2 million rows, and a stateful pool with a slow stage, beside Ray Data."""

import statistics
from pathlib import Path

from lib import OUT, Comparison, Failed, Peer, Row, built, peer_script, python, run, run_json, version

HERE = Path(__file__).parent
ROWS = 2_000_000
POOL = ["--workers", 4, "--batches", 800, "--stage-ms", 5]
POOL_ROWS = 800 * 1024


def table() -> Path:
    folder = OUT / "data" / f"floats-{ROWS}"
    if not folder.exists():
        version("pyarrow")
        run([python(), HERE / "gen.py", folder, ROWS])
    return folder


def seconds(result, rows=ROWS) -> float:
    if result["rows"] != rows:
        raise Failed(f"{result['rows']} rows came out instead of {rows}")
    return statistics.median(result["seconds"])


def ours():
    closure = run_json([built("map_batches"), "--input", table(), "--runs", 3, "--json"])
    pool = run_json([built("slow_pool"), *POOL, "--runs", 3, "--json"])
    return {
        "seconds": seconds(closure),
        "pool_s": seconds(pool, POOL_ROWS),
        "pool_of_ideal": statistics.median(pool["of_ideal"]),
        "ideal": 1.0,
        "pool_peak_mib": pool["peak_bytes"] / 2**20,
    }


def ray():
    closure = peer_script(HERE / "ray_data.py", "--input", table(), "--runs", 3, package="ray")
    pool = peer_script(HERE / "ray_pool.py", *POOL, "--runs", 3, package="ray")
    return {"seconds": seconds(closure), "start_s": closure["start_s"], "pool_s": seconds(pool, POOL_ROWS)}


COMPARISON = Comparison(
    title="Data: a closure over 2 million rows, and a slow stage in a pool",
    about="A folder of 8 Parquet files (an id and four float columns) is read, four columns are scaled and clipped to [-1, 1] by a "
    "`map_batches` closure (NumPy in Ray, slices in Rust), and every batch is streamed out and counted. Three timed passes a "
    "process; starting the process, and Ray's workers, is not counted. The pool: 4 workers with a state, 800 batches of 1 024 rows, 5 ms each; its "
    "workers' start is counted on both sides. The ideal is four threads that only wait.",
    ours=ours,
    peers=[Peer("Ray Data", ray, package="ray")],
    rows=[
        Row("read, map_batches, drain", "s", "seconds", "seconds", "Ray Data", higher_is_better=False),
        Row("stateful pool, 5 ms a batch, 4 workers", "s", "pool_s", "pool_s", "Ray Data", higher_is_better=False, floor=1.0),
        Row("the pool's share of the ideal", "", "pool_of_ideal", "ideal", against="four threads that only wait", floor=0.97),
    ],
)
