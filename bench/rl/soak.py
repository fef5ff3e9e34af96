"""Memory over 50 million steps of PPO on CartPole-v1: no comparison but a test, in about three minutes.

    python3 bench/rl/soak.py [--steps 50000000] [--binary target/release/air-rl]

Fails if the process is more than 2 MiB larger in the last tenth than after the first one.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib import built, memory_mib

MOST_MIB = 2.0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=50_000_000)
    parser.add_argument("--binary", type=Path)
    args = parser.parse_args()
    command = [args.binary or built("air-rl"), "train", "ppo", "CartPole-v1", "--steps", args.steps, "--json"]
    begin = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen = []  # (share of the steps, MiB), looked at with each line of progress
    for line in process.stderr:
        words = line.split()
        if words[:1] == ["steps"]:
            seen.append((int(words[1]) / args.steps, memory_mib([process.pid])))
    if process.wait():
        raise SystemExit(f"exit {process.returncode}")
    early = [mib for share, mib in seen if 0.05 <= share <= 0.15]
    late = [mib for share, mib in seen if share >= 0.9]
    if not early or not late:
        raise SystemExit(f"too few looks at the memory: {len(seen)}")
    print(f"{args.steps} steps in {time.monotonic() - begin:.0f} s: {max(early):.1f} MiB early, {max(late):.1f} MiB late, {len(seen)} looks")
    if max(late) > max(early) + MOST_MIB:
        raise SystemExit("the memory grew")


if __name__ == "__main__":
    main()
