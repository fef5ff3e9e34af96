"""What pyarrow, polars and DuckDB read of a dataset over Arrow's C stream interface, and what a dataset reads of theirs: the same rows, the same memory.

    cargo build --release -p air-data --example data_c_stream
    python bench/data/c_stream.py target/release/examples/libdata_c_stream.so data/flights.parquet

Needs pyarrow, polars, duckdb and numpy. Ends with an error where an answer is not the same, or where memory was copied.
"""

import ctypes
import sys
import time

import duckdb
import numpy
import polars
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet

library = ctypes.CDLL(sys.argv[1])
library.air_read.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
library.air_query.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
library.air_free.argtypes = [ctypes.c_void_p]
library.air_read.restype = library.air_query.restype = ctypes.c_void_p
STREAM_BYTES = 5 * ctypes.sizeof(ctypes.c_void_p)


def check(text):
    if text:
        message = ctypes.string_at(text).decode()
        library.air_free(text)
        raise RuntimeError(message)


class Stream:
    """A stream of ours as a Python object that speaks the PyCapsule protocol, which pyarrow, polars and DuckDB read."""

    def __init__(self):
        self.memory = ctypes.create_string_buffer(STREAM_BYTES)
        self.pointer = ctypes.addressof(self.memory)

    @classmethod
    def read(cls, path):
        stream = cls()
        check(library.air_read(path.encode(), stream.pointer))
        return stream

    @classmethod
    def query(cls, table, query):
        """`table` is whatever pyarrow makes a reader of."""
        stream, given = cls(), cls()
        pa.RecordBatchReader.from_stream(table)._export_to_c(given.pointer)
        check(library.air_query(given.pointer, query.encode(), stream.pointer))
        return stream

    def reader(self):
        return pa.RecordBatchReader._import_from_c(self.pointer)

    def __arrow_c_stream__(self, requested_schema=None):
        return self.reader().__arrow_c_stream__(requested_schema)


def same(what, got, expected):
    if got != expected:
        raise SystemExit(f"{what}: {got!r} instead of {expected!r}")
    print(f"{what}: {got}")


def seconds(work):
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


path = sys.argv[2]
known = parquet.read_table(path)
total = compute.sum(known["distance"]).as_py()

table, took = seconds(lambda: Stream.read(path).reader().read_all())
same("pyarrow: rows", table.num_rows, known.num_rows)
same("pyarrow: sum of distances", compute.sum(table["distance"]).as_py(), total)
same("pyarrow: all columns but the types of text", table.cast(known.schema).equals(known), True)
print(f"  {took:.3f} s")
frame, took = seconds(lambda: polars.DataFrame(Stream.read(path)))
same("polars: sum of distances", frame["distance"].sum(), total)
print(f"  {took:.3f} s")
reader = Stream.read(path).reader()
answer, took = seconds(lambda: duckdb.sql("select sum(distance), count(dep_delay) from reader").fetchall())
same("DuckDB: sum of distances", answer[0], (total, known.num_rows - known["dep_delay"].null_count))
print(f"  {took:.3f} s")

query = "select carrier, count(*) as flights, avg(arr_delay) as delay from t group by carrier order by carrier"
expected = duckdb.sql(query.replace("from t", "from known")).fetchall()
for name, theirs in [("pyarrow", known), ("polars", polars.from_arrow(known)), ("DuckDB", duckdb.sql("select * from known"))]:
    source = theirs.to_arrow_reader(10_000) if name == "DuckDB" else theirs
    got = Stream.query(source, query).reader().read_all()
    rows = list(zip(*(column.to_pylist() for column in got.columns)))
    close = all(a[:2] == b[:2] and abs(a[2] - b[2]) <= 1e-9 * abs(b[2]) for a, b in zip(rows, expected))
    same(f"{name} asked by SQL of ours: {len(rows)} groups", close and len(rows) == len(expected), True)

# Not a byte is copied: what comes back through two engines lies where NumPy put it.
numbers = numpy.arange(1_000_000, dtype="int64")
given = pa.table({"id": pa.array(numbers)})
back = Stream.query(given, "select id from t").reader().read_all()
first = given["id"].chunk(0).buffers()[1].address
addresses, row = [], 0
for chunk in back["id"].chunks:
    addresses.append(chunk.buffers()[1].address + 8 * chunk.offset == first + 8 * row)
    row += len(chunk)
same("rows that came back", row, len(numbers))
same(f"the memory is NumPy's in all of {len(addresses)} batches", all(addresses), True)

try:
    Stream.query(given, "select nope from t")
except RuntimeError as error:
    same("an error is told", "no column 'nope'" in str(error), True)
# A half-read stream is given back.
half = Stream.read(path).reader()
same("the first batch has rows", half.read_next_batch().num_rows > 0, True)
half.close()
print("all the same")
