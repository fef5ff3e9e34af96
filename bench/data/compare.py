"""`map_batches` over 2 million rows, beside Ray Data."""

import statistics
from pathlib import Path

from lib import OUT, Comparison, Failed, Peer, Row, built, peer_script, python, run, run_json, version

HERE = Path(__file__).parent
ROWS = 2_000_000


def table() -> Path:
    folder = OUT / "data" / f"floats-{ROWS}"
    if not folder.exists():
        version("pyarrow")
        run([python(), HERE / "gen.py", folder, ROWS])
    return folder


def seconds(result) -> dict[str, float]:
    if result["rows"] != ROWS:
        raise Failed(f"{result['rows']} rows came out instead of {ROWS}")
    return {"seconds": statistics.median(result["seconds"])}


def ours():
    program = built("map_batches")
    return seconds(run_json([program, "--input", table(), "--runs", 3, "--json"]))


def ray():
    result = peer_script(HERE / "ray_data.py", "--input", table(), "--runs", 3, package="ray")
    return seconds(result) | {"start_s": result["start_s"]}


COMPARISON = Comparison(
    title="Data: a closure over 2 million rows",
    about="A folder of 8 Parquet files (an id and four float columns) is read, four columns are scaled and clipped to [-1, 1] by a "
    "`map_batches` closure (NumPy in Ray, slices in Rust), and every batch is streamed out and counted. Three timed passes a "
    "process; starting the process, and Ray's workers, is not counted.",
    ours=ours,
    peers=[Peer("Ray Data", ray, package="ray")],
    rows=[Row("read, map_batches, drain", "s", "seconds", "seconds", "Ray Data", higher_is_better=False)],
)
