"""Operations over 20 million rows beside other engines, each in a fresh process; and a stateful pool with a slow stage beside Ray Data."""

import os
import statistics
import sys
from pathlib import Path

from lib import OUT, Comparison, Failed, Peer, Row, built, peer_script, python, run, run_json, run_watched, version

HERE = Path(__file__).parent
ROWS = int(os.environ.get("AIR_BENCH_DATA_ROWS", 20_000_000))
POOL = ["--workers", 4, "--batches", 800, "--stage-ms", 5]
POOL_ROWS = 800 * 1024

# What is said of an operation, and what we claim for it beside Ray Data.
SAID = {
    "startup": ("a trivial job, from the start of the process", 50),
    "count": ("count", 5),
    "scan": ("read everything", 5),
    "write": ("filter, project, write Parquet", 5),
    "map_batches": ("scale and clip four columns in `map_batches`", 10),
    "rows": ("`map` over rows", 30),
    "group_by": ("group by 1 million keys", 5),
    "sort": ("sort", 5),
    "shuffle": ("random shuffle", 5),
    "join": ("join with 1 million rows", 5),
    "csv": ("read CSV", 5),
    "batches": ("batches of 1 024 as columns", 30),
    "tensors": ("batches of 1 024 as one float32 matrix", 30),
}
# Why a ratio is below what we claim, where a profile or a count has told.
DECODER = "decoding the five columns alone takes 0.33 s on both cores, 29 times faster than Ray: no reader of these files can be 30 times faster"
WHY = {
    ("write", "Polars"): "a profile: copies 11 %, compressing 11 %, decompressing 11 %, comparing texts 5 %; texts are made out of their dictionaries, filtered, and made dictionaries again",
    ("csv", "bare"): "a profile: ours are cut where quotes tell that a record ends, which is one more pass, 3 %; the rest is the same parser",
    ("batches", "Ray Data"): DECODER,
    ("tensors", "Ray Data"): DECODER,
}

# All of them, or those asked for.
OPERATIONS = os.environ.get("AIR_BENCH_DATA_OPERATIONS", ",".join(SAID)).split(",")


def table() -> Path:
    folder = OUT / "data" / f"table-{ROWS}"
    if not folder.exists():
        version("pyarrow")
        run([python(), HERE / "gen.py", folder, ROWS])
    return folder


def rows_of(operation) -> int | None:
    """How many rows an operation must give; None where the data says."""
    return {"startup": 1000, "group_by": ROWS // 20, "csv": 4 * (ROWS * 3 // 100), "write": None}.get(operation, ROWS)


def measured(name, command, operations, several=False) -> dict[str, float]:
    values = {}
    for operation in operations:
        if operation in SAID and operation not in OPERATIONS:
            continue
        try:
            result, peak = run_watched([*command, operation, table()], several=several, limit_s=900)
        except Failed as error:
            # One operation that a system cannot do leaves the others.
            print(f"data: {name} {operation}: {error}", file=sys.stderr, flush=True)
            continue
        expected = rows_of(operation)
        if expected is not None and result["rows"] != expected:
            raise Failed(f"{name} {operation}: {result['rows']} rows instead of {expected}")
        values |= {operation: result["seconds"], f"{operation}_mib": peak}
    return values


def ours():
    values = measured("AIR", [built("bench_data")], SAID)
    pool = run_json([built("slow_pool"), *POOL, "--runs", 3, "--json"])
    if pool["rows"] != POOL_ROWS:
        raise Failed(f"{pool['rows']} rows came out of the pool instead of {POOL_ROWS}")
    return values | {
        "pool_s": statistics.median(pool["seconds"]),
        "pool_of_ideal": statistics.median(pool["of_ideal"]),
        "ideal": 1.0,
        "pool_peak_mib": pool["peak_bytes"] / 2**20,
    }


BY_DATAFUSION = ["count", "scan", "write", "group_by", "sort", "join", "csv"]


def bare():
    return measured("bare", [built("bench_data_bare")], [*BY_DATAFUSION, "map_batches", "decode"])


def engine(name, package):
    def measure():
        version(package)
        operations = [operation for operation in SAID if operation != "rows"]
        return measured(name, [python(), HERE / f"{package}_ops.py"], operations)

    return Peer(name, measure, package=package)


def ray():
    values = measured("Ray Data", [python(), HERE / "ray_ops.py"], SAID, several=True)
    pool = peer_script(HERE / "ray_pool.py", *POOL, "--runs", 3, package="ray")
    return values | {"pool_s": statistics.median(pool["seconds"])}


RAY = Peer("Ray Data", ray, package="ray")
DAFT, POLARS, DUCKDB = engine("Daft", "daft"), engine("Polars", "polars"), engine("DuckDB", "duckdb")
BARE = Peer("bare", bare)


def rows():
    down = {"higher_is_better": False}
    for operation, (said, claim) in SAID.items():
        why = {peer: WHY.get((operation, peer), "") for peer in ("bare", "Ray Data", "Polars")}
        if operation in BY_DATAFUSION:
            yield Row(said, "s", operation, operation, BARE.name, "DataFusion", floor=0.95, note=why["bare"], **down)
        if operation == "map_batches":
            yield Row(said, "s", operation, operation, BARE.name, "loop over arrow-rs", floor=0.8, note=why["bare"], **down)
        if operation in ("batches", "tensors"):
            yield Row(said, "s", operation, "decode", BARE.name, "Parquet decoder", floor=0.6, **down)
        yield Row(said, "s", operation, operation, RAY.name, floor=claim, note=why["Ray Data"], **down)
        if operation != "rows":
            for peer in (DAFT, POLARS, DUCKDB):
                floor = 2.0 if operation == "map_batches" and peer is DAFT else 0.83
                yield Row(said, "s", operation, operation, peer.name, floor=floor, note=why.get(peer.name, ""), **down)
    for operation, (said, _) in SAID.items():
        for peer in (RAY, DAFT, POLARS, DUCKDB):
            if operation in ("map_batches", "group_by", "sort", "join", "batches"):
                yield Row(f"{said}: memory at its peak", "MiB", f"{operation}_mib", f"{operation}_mib", peer.name, floor=0.0, **down)
    yield Row("stateful pool, 5 ms a batch, 4 workers", "s", "pool_s", "pool_s", RAY.name, floor=1.0, **down)
    yield Row("the pool's share of the ideal", "", "pool_of_ideal", "ideal", against="four threads that only wait", floor=0.97)


COMPARISON = Comparison(
    title=f"Data: {ROWS / 1e6:g} million rows",
    about="Sixteen Parquet files (two whole numbers, four floats, two texts), read, transformed and drained; joined with a table of 1 million rows; "
    "a fresh process for each operation, files in the page cache. What is timed is the operation; starting the process, importing, and starting Ray and its workers is not, "
    "except in the trivial job. Results leave as Arrow batches that are counted; Ray's stay in its store. Ours come in order, as Ray's; the other engines may mix rows where they like to. "
    "Memory is the most that the process held (VmHWM), of Ray's processes the most that they held together, what they share counted once (looked at five times a second). "
    "The pool: 4 workers with a state, 800 batches of 1 024 rows, 5 ms each; its workers' start is counted on both sides. The ideal is four threads that only wait.",
    ours=ours,
    peers=[BARE, RAY, DAFT, POLARS, DUCKDB],
    rows=list(rows()),
)
