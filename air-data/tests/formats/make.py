"""Makes the files that the tests of formats read, by the formats' own libraries: tfrecord 1.14 (protobuf 7.36), webdataset 1.0, tarfile, Pillow 13, fastavro 1.13.

    pip install tfrecord webdataset pillow fastavro && python make.py
"""

import datetime
import io
import json
import tarfile

import fastavro
import numpy as np
import tfrecord
import webdataset
from PIL import Image

# Records: what has one value always, what has several, what is missing, what is empty.
writer = tfrecord.TFRecordWriter("examples.tfrecord")
for i in range(3):
    example = {
        "id": (i - 1, "int"),
        "ids": (list(range(i)), "int"),
        "weight": (0.5 * i, "float"),
        "vector": ([float(i), -1.5], "float"),
        "image": (bytes([0, 255, i]), "byte"),
        "big": ([2**63 - 1, -(2**63)], "int"),
    }
    if i != 1:
        example["words"] = ([b"a", "ä".encode()], "byte")
    writer.write(example)
writer.close()

# Samples, as webdataset writes them: a class, text, JSON, bytes.
with webdataset.TarWriter("samples.tar", mtime=0) as sink:
    for i in range(3):
        sample = {"__key__": f"train/{i:04}", "cls": i * 7, "txt": f"text {i}, ä", "json": {"n": i}, "bin": bytes([i, 0, 255])}
        if i == 1:
            del sample["bin"]
        sink.write(sample)

# The same two samples in tar's three dialects, one with a name longer than a header holds, and what is no file between.
for name, dialect in [("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)]:
    with tarfile.open(f"{name}.tar", "w", format=dialect) as tar:
        def add(path, content, kind=tarfile.REGTYPE):
            info = tarfile.TarInfo(path)
            info.size, info.type = len(content), kind
            tar.addfile(info, io.BytesIO(content))
        long = "long/" + "d" * 80 + "/" + "k" * (60 if dialect == tarfile.USTAR_FORMAT else 150)
        add("folder", b"", tarfile.DIRTYPE)
        add("README", b"belongs to no sample")
        add("./a.txt", b"first")
        add("./a.seg.png", b"\x89PNG")
        add("link", b"", tarfile.SYMTYPE)
        add(long + ".txt", b"x" * 513)

image = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14)
image.save("rgb.png")
image.convert("L").save("gray.png")
Image.fromarray(np.full((8, 16, 3), (200, 30, 60), dtype=np.uint8)).save("flat.jpg", quality=95)

schema = {
    "type": "record", "name": "Row", "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "x", "type": "double"},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}
rows = [{"id": i, "name": None if i % 3 == 0 else f"n{i}", "x": i / 4, "day": datetime.date(2024, 2, 29), "tags": ["t"] * (i % 3)} for i in range(100)]
for codec in ["null", "deflate"]:
    with open(f"rows.{codec}.avro", "wb") as out:
        fastavro.writer(out, schema, rows, codec=codec, sync_interval=500, sync_marker=b"0123456789abcdef")
