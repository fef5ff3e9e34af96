"""Makes the table that data engines read: 2 million rows in 8 Parquet files, the same bytes every time.

    python gen.py FOLDER [ROWS]

Columns: id (int64, 0…), f1 uniform in [0, 1), f2 normal(10, 3), f3 exponential(2), f4 normal(-5, 50), all float64.
Row groups of 125 000 rows, Snappy. Several files, because that is what engines spread over cores.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

FILES = 8


def main():
    folder = Path(sys.argv[1])
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000_000
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    each = rows // FILES
    for i in range(FILES):
        rng = np.random.default_rng(1000 + i)
        table = pa.table({
            "id": np.arange(i * each, (i + 1) * each, dtype=np.int64),
            "f1": rng.random(each),
            "f2": rng.normal(10, 3, each),
            "f3": rng.exponential(2.0, each),
            "f4": rng.normal(-5, 50, each),
        })
        parquet.write_table(table, part / f"part-{i}.parquet", row_group_size=125_000, compression="snappy")
    os.replace(part, folder)


if __name__ == "__main__":
    main()
