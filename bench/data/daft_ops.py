"""One operation of the engines' comparison with Daft's native runner: `daft_ops.py OPERATION FOLDER`."""

import json
import os
import shutil
import sys
import time

BEGIN = time.perf_counter()
os.environ["DAFT_PROGRESS_BAR"] = "0"
import daft
import numpy as np
from daft import col

OPERATION, FOLDER = sys.argv[1:]
SCALE = {"f1": (0.5, 0.2886751), "f2": (10.0, 3.0), "f3": (2.0, 2.0), "f4": (-5.0, 50.0)}  # mean, deviation


def drain(frame):
    return sum(len(part) for part in frame.iter_partitions())


def scaling(mean, factor):
    @daft.func.batch(return_dtype=daft.DataType.float64())
    def scale(column):
        return np.clip((column.to_arrow().to_numpy(zero_copy_only=False) - mean) * factor, -1, 1)

    return scale


def run():
    daft.set_runner_native()
    if OPERATION == "startup":
        @daft.func.batch(return_dtype=daft.DataType.int64())
        def same(column):
            return column

        return len(daft.from_pydict({"id": np.arange(1000)}).with_column("id", same(col("id"))).to_arrow())
    facts = daft.read_parquet(f"{FOLDER}/facts/*.parquet")
    if OPERATION == "count":
        return facts.count_rows()
    if OPERATION == "scan":
        return drain(facts)
    if OPERATION == "write":
        out = f"{FOLDER}/out_daft"
        shutil.rmtree(out, ignore_errors=True)
        kept = facts.where((col("f1") > 0.5) & (col("cat") != "c07"))
        kept.select(col("id"), col("key"), (col("f1") * 2 + col("f2")).alias("y"), col("cat")).write_parquet(out, compression="snappy")
        return daft.read_parquet(f"{out}/*.parquet").count_rows()
    if OPERATION == "map_batches":
        return drain(facts.with_columns({name: scaling(mean, 1 / deviation)(col(name)) for name, (mean, deviation) in SCALE.items()}))
    if OPERATION == "group_by":
        return drain(facts.groupby("key").agg(col("f1").sum(), col("f2").mean()))
    if OPERATION == "sort":
        return drain(facts.sort("key"))
    if OPERATION == "shuffle":
        if hasattr(facts, "shuffle"):
            return drain(facts.shuffle(seed=1))

        @daft.func.batch(return_dtype=daft.DataType.float64())
        def random(column):
            return np.random.random(len(column))

        return drain(facts.with_column("__random", random(col("id"))).sort("__random"))
    if OPERATION == "join":
        return drain(facts.join(daft.read_parquet(f"{FOLDER}/dim/*.parquet"), on="key"))
    if OPERATION == "csv":
        return drain(daft.read_csv(f"{FOLDER}/csv/*.csv"))
    if OPERATION in ("batches", "tensors"):
        rows, first = 0, 0.0
        for batch in facts.select("f1", "f2", "f3", "f4", "key").into_batches(1024).to_arrow_iter():
            columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
            if OPERATION == "batches":
                first += sum(float(column[0]) for column in columns)
            else:
                first += float(np.stack(columns[:4], 1).astype(np.float32)[0, 0])
            rows += batch.num_rows
        return rows
    raise SystemExit(f"no operation {OPERATION}")


start = BEGIN if OPERATION == "startup" else time.perf_counter()
rows = run()
print(json.dumps({"seconds": time.perf_counter() - start, "rows": rows}))
