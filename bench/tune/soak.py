#!/usr/bin/env python3
"""What takes too long for a test or a comparison: hundreds of kills, thousands of sleeping trials, memory over a hundred thousand trials.

    python3 bench/tune/soak.py                                   # everything, about ten minutes
    python3 bench/tune/soak.py --only kills --kills 1000

`kills`: experiments of every searcher and scheduler are killed at random instants and resumed; nothing that was acknowledged may be lost or run again, and every trial must be what
it would have been. `sleep`: 10 000 trials of one second, 64 at once, at most 1 % over 156.25 s. `memory`: 100 000 trials may not take more than --bytes each. Exits with 1
where one of them does not hold.
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib import Failed, built, run, run_json

WORK = ("kills", "sleep", "memory")


def kills(options):
    command = ["cargo", "test", "--release", "-p", "air-tune", "--test", "it", "--", "--nocapture", "killed::whatever"]
    out = run(command, env={"AIR_TUNE_KILLS": str(options.kills)}, limit_s=7200)
    return int(re.search(r"^(\d+) kills", out, re.MULTILINE)[1]) >= options.kills, out.strip().splitlines()[-1]


def sleep(options):
    told = run_json([built("bench_many"), "--trials", 10_000, "--at-once", 64, "--seconds", 1])
    return told["of_ideal"] >= 0.99, told


def memory(options):
    with tempfile.TemporaryDirectory() as folder:
        runs = [run_json([built("bench_many"), "--trials", 100_000, "--at-once", 2, *more]) for more in ([], ["--stored", Path(folder) / "many"])]
    each = [(told["end_mib"] - told["tenth_mib"]) * 2**20 / 90_000 for told in runs]
    return max(each) <= options.bytes, {"bytes_each": each, "runs": runs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=WORK, action="append")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--bytes", type=int, default=600)
    options = parser.parse_args()
    bad = False
    for name in options.only or WORK:
        try:
            holds, told = globals()[name](options)
        except Failed as error:
            holds, told = False, error
        print(f"{name}: {'holds' if holds else 'DOES NOT HOLD'}: {told}", flush=True)
        bad |= not holds
    return 1 if bad else 0


if __name__ == "__main__":
    os.environ.setdefault("CARGO_TERM_COLOR", "never")
    sys.exit(main())
