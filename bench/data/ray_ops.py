"""One operation of the engines' comparison with Ray Data: `ray_ops.py OPERATION FOLDER`.

Ray is started and its workers are warm before the time begins, except for `startup`, where everything counts.
"""

import json
import logging
import os
import shutil
import sys
import time

BEGIN = time.perf_counter()
import numpy as np
import ray

OPERATION, FOLDER = sys.argv[1:]
SCALE = {"f1": (0.5, 0.2886751), "f2": (10.0, 3.0), "f3": (2.0, 2.0), "f4": (-5.0, 50.0)}  # mean, deviation


def facts(**options):
    return ray.data.read_parquet(f"{FOLDER}/facts", **options)


def drain(dataset):
    """Runs the plan; the blocks are counted and dropped, not copied into this process."""
    return sum(bundle.num_rows() for bundle in dataset.iter_internal_ref_bundles())


def scale(batch):
    for column, (mean, deviation) in SCALE.items():
        batch[column] = np.clip((batch[column] - mean) * (1 / deviation), -1.0, 1.0)
    return batch


def run():
    if OPERATION == "startup":
        return ray.data.range(1000).map_batches(lambda batch: batch).count()
    if OPERATION == "count":
        return facts().count()
    if OPERATION == "scan":
        return drain(facts())
    if OPERATION == "write":
        from ray.data.expressions import col, lit

        out = f"{FOLDER}/out_ray"
        shutil.rmtree(out, ignore_errors=True)
        kept = facts().filter(expr=(col("f1") > lit(0.5)) & (col("cat") != lit("c07")))
        kept = kept.with_column("y", col("f1") * lit(2.0) + col("f2")).select_columns(["id", "key", "y", "cat"])
        kept.write_parquet(out, compression="snappy")
        return ray.data.read_parquet(out).count()
    if OPERATION == "map_batches":
        return drain(facts().map_batches(scale, batch_format="numpy", zero_copy_batch=False))
    if OPERATION == "rows":
        return drain(facts(columns=["id", "f1", "f2"]).map(lambda row: {"id": row["id"], "y": row["f1"] * 2.0 + row["f2"]}))
    if OPERATION == "group_by":
        from ray.data.aggregate import Mean, Sum

        return drain(facts(columns=["key", "f1", "f2"]).groupby("key").aggregate(Sum("f1"), Mean("f2")))
    if OPERATION == "sort":
        return drain(facts().sort("key"))
    if OPERATION == "shuffle":
        return drain(facts().random_shuffle(seed=1))
    if OPERATION == "join":
        return drain(facts().join(ray.data.read_parquet(f"{FOLDER}/dim"), join_type="inner", num_partitions=16, on=("key",)))
    if OPERATION == "csv":
        return drain(ray.data.read_csv(f"{FOLDER}/csv"))
    if OPERATION in ("batches", "tensors"):
        rows, first = 0, 0.0
        for batch in facts(columns=["f1", "f2", "f3", "f4", "key"]).iter_batches(batch_size=1024, batch_format="numpy"):
            if OPERATION == "batches":
                first += sum(float(column[0]) for column in batch.values())
            else:
                first += float(np.stack([batch[name] for name in SCALE], 1).astype(np.float32)[0, 0])
            rows += len(batch["f1"])
        return rows
    raise SystemExit(f"no operation {OPERATION}")


def main():
    ray.init(num_cpus=os.cpu_count(), object_store_memory=6 << 30, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    start = BEGIN
    if OPERATION != "startup":
        drain(ray.data.range(1000).map_batches(lambda batch: batch))
        start = time.perf_counter()
    rows = run()
    print(json.dumps({"seconds": time.perf_counter() - start, "rows": rows}))


if __name__ == "__main__":
    main()
