"""Writes iris.csv and iris.parquet: Fisher's 150 flowers, as scikit-learn has them (equal to R's, and unlike the UCI
file, which has two wrong rows). Needs scikit-learn and pyarrow.

    python examples/data/make_iris.py
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sklearn.datasets import load_iris

NAMES = ["sepal.length", "sepal.width", "petal.length", "petal.width"]

iris = load_iris()
columns = {name: pa.array(iris.data[:, i], pa.float64()) for i, name in enumerate(NAMES)}
columns["variety"] = pa.array([iris.target_names[label].capitalize() for label in iris.target], pa.string())
table = pa.table(columns)
assert table.num_rows == 150

here = Path(__file__).parent
pa.parquet.write_table(table, here / "iris.parquet")
lines = [",".join(columns)]
lines += [",".join(str(row[name]) for name in columns) for row in table.to_pylist()]
(here / "iris.csv").write_text("\n".join(lines) + "\n")
