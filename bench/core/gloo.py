"""All-reduce over two processes by torch's gloo on this machine, one JSON line {name, value, unit} each.

    gloo_4kib, gloo_4mib, gloo_64mib    GiB of a float32 tensor reduced per second, of each rank's own tensor

Gloo has no mean, so this is its sum; our side sums and divides. The clock is the slower rank's, the figure the median of
a few rounds after a warm-up.
"""

import json
import os
import socket
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

SIZES = {"4kib": 4 << 10, "4mib": 4 << 20, "64mib": 64 << 20}
WORLD, ROUNDS, ROUND_BYTES = 2, 5, 256 << 20


def measure(size):
    """Seconds an all-reduce of `size` bytes takes, the slower rank's median."""
    tensor = torch.zeros(size // 4)
    times = min(max(ROUND_BYTES // size, 4), 2000)
    rounds = []
    for _ in range(ROUNDS + 1):
        dist.barrier()
        start = time.perf_counter()
        for _ in range(times):
            dist.all_reduce(tensor)
        took = torch.tensor((time.perf_counter() - start) / times, dtype=torch.float64)
        dist.all_reduce(took, op=dist.ReduceOp.MAX)
        rounds.append(took.item())
    return statistics.median(rounds[1:])


def rank(index, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=index, world_size=WORLD)
    for name, size in SIZES.items():
        seconds = measure(size)
        if index == 0:
            print(json.dumps({"name": f"gloo_{name}", "value": size / 2**30 / seconds, "unit": "GiB/s"}), flush=True)
    dist.destroy_process_group()


def main():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(rank, args=(port,), nprocs=WORLD)


if __name__ == "__main__":
    sys.exit(main())
