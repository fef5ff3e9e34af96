"""Makes the tables of the engines' comparison, the same bytes every time.

    python gen.py FOLDER [ROWS]

`facts/`, 16 Parquet files: id (int64, 0…), key (int64, one of ROWS / 20), f1 uniform in [0, 1), f2 normal(10, 3), f3 exponential(2),
f4 normal(-5, 50), cat (text, one of 100), s (text of 12 letters, all different). `dim/`, 2 Parquet files: every key once, w (float64),
name (text). `csv/`, 4 files: the first 12 % of the facts. Row groups of 125 000 rows, Snappy.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet

FILES = 16


def letters(numbers):
    """A column of text: each number as 12 hexadecimal digits."""
    shifts = np.arange(44, -4, -4, dtype=np.uint64)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)[((numbers[:, None] >> shifts) & np.uint64(15)).astype(np.uint8)]
    offsets = np.arange(0, 12 * len(numbers) + 1, 12, dtype=np.int32)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(digits)))


def facts(file, rows, keys):
    rng = np.random.default_rng(1000 + file)
    categories = pa.array([f"c{i:02d}" for i in range(100)])
    return pa.table({
        "id": np.arange(file * rows, (file + 1) * rows, dtype=np.int64),
        "key": rng.integers(0, keys, rows, dtype=np.int64),
        "f1": rng.random(rows),
        "f2": rng.normal(10, 3, rows),
        "f3": rng.exponential(2.0, rows),
        "f4": rng.normal(-5, 50, rows),
        "cat": categories.take(pa.array(rng.integers(0, 100, rows))),
        "s": letters(rng.integers(0, 2**63, rows, dtype=np.uint64)),
    })


def main():
    folder = Path(sys.argv[1])
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000_000
    part = folder.with_name(folder.name + ".part")
    for name in ("facts", "dim", "csv"):
        (part / name).mkdir(parents=True, exist_ok=True)
    each, keys = rows // FILES, rows // 20
    for file in range(FILES):
        table = facts(file, each, keys)
        parquet.write_table(table, part / "facts" / f"part-{file:02d}.parquet", row_group_size=125_000, compression="snappy")
        if file < 4:
            csv.write_csv(table.slice(0, rows * 3 // 100), part / "csv" / f"part-{file}.csv")
    rng = np.random.default_rng(7)
    dim = pa.table({
        "key": rng.permutation(keys).astype(np.int64),
        "w": rng.random(keys),
        "name": letters(rng.integers(0, 2**63, keys, dtype=np.uint64)),
    })
    for file in range(2):
        parquet.write_table(dim.slice(file * keys // 2, keys // 2), part / "dim" / f"part-{file}.parquet", compression="snappy")
    os.replace(part, folder)


if __name__ == "__main__":
    main()
