"""One operation of the engines' comparison with Polars' streaming engine: `polars_ops.py OPERATION FOLDER`."""

import json
import os
import shutil
import sys
import time

BEGIN = time.perf_counter()
import numpy as np
import polars as pl

OPERATION, FOLDER = sys.argv[1:]
SCALE = {"f1": (0.5, 0.2886751), "f2": (10.0, 3.0), "f3": (2.0, 2.0), "f4": (-5.0, 50.0)}  # mean, deviation


def drain(frame, ordered=False):
    """Without an order that is to be kept a sort would be left out."""
    return sum(batch.height for batch in frame.collect_batches(maintain_order=ordered, engine="streaming"))


def scale(frame):
    return frame.with_columns([pl.Series(name, np.clip((frame[name].to_numpy() - mean) * (1 / deviation), -1, 1))
                               for name, (mean, deviation) in SCALE.items()])


def run():
    if OPERATION == "startup":
        return pl.DataFrame({"id": np.arange(1000)}).lazy().map_batches(lambda frame: frame, streamable=True).collect(engine="streaming").height
    facts = pl.scan_parquet(f"{FOLDER}/facts/*.parquet")
    if OPERATION == "count":
        return facts.select(pl.len()).collect(engine="streaming").item()
    if OPERATION == "scan":
        return drain(facts)
    if OPERATION == "write":
        out = f"{FOLDER}/out_polars"
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        kept = facts.filter((pl.col("f1") > 0.5) & (pl.col("cat") != "c07"))
        kept = kept.select("id", "key", (pl.col("f1") * 2 + pl.col("f2")).alias("y"), "cat")
        kept.sink_parquet(f"{out}/part.parquet", compression="snappy", engine="streaming")
        return pl.scan_parquet(f"{out}/part.parquet").select(pl.len()).collect().item()
    if OPERATION == "map_batches":
        return drain(facts.map_batches(scale, streamable=True))
    if OPERATION == "group_by":
        return drain(facts.group_by("key").agg(pl.col("f1").sum(), pl.col("f2").mean()))
    if OPERATION == "sort":
        return drain(facts.sort("key"), ordered=True)
    if OPERATION == "shuffle":
        return facts.collect(engine="streaming").sample(fraction=1.0, shuffle=True, seed=1).height
    if OPERATION == "join":
        return drain(facts.join(pl.scan_parquet(f"{FOLDER}/dim/*.parquet"), on="key"))
    if OPERATION == "csv":
        return drain(pl.scan_csv(f"{FOLDER}/csv/*.csv"))
    if OPERATION in ("batches", "tensors"):
        rows, first = 0, 0.0
        columns = facts.select("f1", "f2", "f3", "f4", "key")
        for batch in columns.collect_batches(chunk_size=1024, maintain_order=True, engine="streaming"):
            if OPERATION == "batches":
                first += sum(float(batch[name].to_numpy()[0]) for name in batch.columns)
            else:
                first += float(batch.select(list(SCALE)).to_numpy().astype(np.float32)[0, 0])
            rows += batch.height
        return rows
    raise SystemExit(f"no operation {OPERATION}")


start = BEGIN if OPERATION == "startup" else time.perf_counter()
rows = run()
print(json.dumps({"seconds": time.perf_counter() - start, "rows": rows}))
