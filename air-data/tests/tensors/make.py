"""Makes pyarrow.parquet and pyarrow.arrow: columns of tensors as pyarrow writes them. `python make.py` with pyarrow and numpy installed.

`python make.py FILE ...` reads files that air-data wrote, of the same columns, and checks what pyarrow makes of them.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pyarrow.parquet as parquet

rows = 5
images = np.arange(rows * 6, dtype="float32").reshape(rows, 2, 3)
# Lies in memory as 3 x 2 and is meant as 2 x 3.
turned = pa.ExtensionArray.from_storage(
    pa.fixed_shape_tensor(pa.int64(), [3, 2], permutation=[1, 0], dim_names=["W", "H"]),
    pa.FixedSizeListArray.from_arrays(pa.array(np.arange(rows * 6)), 6),
)

if not sys.argv[1:]:
    table = pa.table({"id": np.arange(rows), "image": pa.FixedShapeTensorArray.from_numpy_ndarray(images), "turned": turned})
    here = Path(__file__).parent
    parquet.write_table(table, here / "pyarrow.parquet")
    with ipc.new_file(here / "pyarrow.arrow", table.schema) as file:
        file.write_table(table)

for path in sys.argv[1:]:
    table = parquet.read_table(path) if path.endswith(".parquet") else feather.read_table(path)
    kind = table.schema.field("image").type
    assert isinstance(kind, pa.FixedShapeTensorType), kind
    assert (kind.shape, kind.value_type) == ([2, 3], pa.float32()), kind
    column = table["image"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    np.testing.assert_array_equal(column.to_numpy_ndarray(), images[: len(table)])
    print(f"{path}: {len(table)} images of {kind.shape}")
    if "ragged" in table.column_names:
        metadata = table.schema.field("ragged").metadata or {}
        name = metadata.get(b"ARROW:extension:name", b"").decode() or getattr(table.schema.field("ragged").type, "extension_name", "")
        assert name == "arrow.variable_shape_tensor", name
        storage = table["ragged"].combine_chunks()
        storage = getattr(storage, "storage", storage)
        for row, value in enumerate(storage.to_pylist()):
            assert value["shape"] == [row, 2], value
            assert value["data"] == list(range(2 * row)), value
        print(f"{path}: {len(table)} tensors of any shape")
