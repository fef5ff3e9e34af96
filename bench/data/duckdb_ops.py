"""One operation of the engines' comparison with DuckDB, results streamed out as Arrow batches: `duckdb_ops.py OPERATION FOLDER`."""

import json
import os
import shutil
import sys
import time

BEGIN = time.perf_counter()
import duckdb
import numpy as np
import pyarrow as pa

OPERATION, FOLDER = sys.argv[1:]
SCALE = {"f1": (0.5, 0.2886751), "f2": (10.0, 3.0), "f3": (2.0, 2.0), "f4": (-5.0, 50.0)}  # mean, deviation


def reader(connection, query, rows=65_536):
    result = connection.sql(query)
    return (getattr(result, "to_arrow_reader", None) or result.fetch_record_batch)(rows)


def drain(connection, query):
    return sum(batch.num_rows for batch in reader(connection, query))


def scaling(mean, factor):
    def scale(column):
        return pa.array(np.clip((column.to_numpy(zero_copy_only=False) - mean) * factor, -1, 1))

    return scale


def run():
    connection = duckdb.connect()
    if OPERATION == "startup":
        return connection.sql("select count(*) from (select range::double x from range(1000))").fetchall()[0][0]
    if OPERATION not in ("batches", "tensors"):
        connection.execute("set preserve_insertion_order=false")
    for name in ("facts", "dim"):
        connection.execute(f"create view {name} as select * from read_parquet('{FOLDER}/{name}/*.parquet')")
    if OPERATION == "count":
        return connection.sql("select count(*) from facts").fetchall()[0][0]
    if OPERATION == "scan":
        return drain(connection, "select * from facts")
    if OPERATION == "write":
        out = f"{FOLDER}/out_duckdb"
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        query = "select id, key, f1 * 2 + f2 as y, cat from facts where f1 > 0.5 and cat <> 'c07'"
        connection.execute(f"copy ({query}) to '{out}/part.parquet' (format parquet, compression snappy)")
        return connection.sql(f"select count(*) from read_parquet('{out}/part.parquet')").fetchall()[0][0]
    if OPERATION == "map_batches":
        # Functions over Arrow arrays, one a column.
        for name, (mean, deviation) in SCALE.items():
            connection.create_function(f"scale_{name}", scaling(mean, 1 / deviation), ["DOUBLE"], "DOUBLE", type="arrow")
        scaled = ", ".join(f"scale_{name}({name}) {name}" for name in SCALE)
        return drain(connection, f"select id, key, cat, s, {scaled} from facts")
    if OPERATION == "group_by":
        return drain(connection, "select key, sum(f1), avg(f2) from facts group by key")
    if OPERATION == "sort":
        return drain(connection, "select * from facts order by key")
    if OPERATION == "shuffle":
        return drain(connection, "select * from facts order by random()")
    if OPERATION == "join":
        return drain(connection, "select facts.*, w, name from facts join dim using (key)")
    if OPERATION == "csv":
        return drain(connection, f"select * from read_csv('{FOLDER}/csv/*.csv')")
    if OPERATION in ("batches", "tensors"):
        rows, first = 0, 0.0
        for batch in reader(connection, "select f1, f2, f3, f4, key from facts", 1024):
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
