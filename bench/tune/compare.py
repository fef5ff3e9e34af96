"""What trials and proposals cost before any work is done, beside Ray Tune, Optuna and rustuna. How good the proposals are: quality.py."""

import functools
import tempfile
import time
from pathlib import Path

from lib import OUT, Comparison, Failed, Missing, Peer, Row, built, peer_script, run_json, version

HERE = Path(__file__).parent
TRIALS, STEPPED, KNOWN, KNOWN_GP = 1000, 100, 1000, 200
# So many sleeping trials, at once, each so long.
MANY, AT_ONCE, NAP_S = 3200, 64, 0.2


def seconds(result, count):
    if result["trials"] != count:
        raise Failed(f"{result['trials']} trials finished instead of {count}")
    return result["seconds"]


@functools.cache
def stores():
    """Where experiments are stored, on the disk, until the process ends: ext4 is slow to make files for some minutes after many were deleted."""
    return tempfile.TemporaryDirectory(dir=OUT, prefix="tune-")


def bench(what, trials):
    """One round of `air-tune bench` in a fresh process: seconds in all, and of each of what it counts."""
    command = [built("air-tune"), "bench", "--only", what, "--rounds", 1, "--trials", trials, "--dir", stores().name, "--keep", "--json"]
    figure = run_json(command)["figures"][what]
    return figure["seconds"], figure["seconds"] / figure["count"]


def timed(take):
    begin = time.perf_counter()
    take()
    return time.perf_counter() - begin


def ours():
    many = run_json([built("bench_many"), "--trials", MANY, "--at-once", AT_ONCE, "--seconds", NAP_S])
    return {
        "durable_s": bench("durable", TRIALS)[0],
        "memory_s": bench("memory", TRIALS)[0],
        "asha_s": bench("asha", 10 * STEPPED)[0],
        "cold_s": timed(lambda: bench("durable", 1)),
        "tpe_ms": 1e3 * bench("tpe", KNOWN)[1],
        "cma_ms": 1e3 * bench("cma", KNOWN)[1],
        "gp_ms": 1e3 * bench("gp", 5 * KNOWN_GP)[1],
        "nap_of_ideal": many["of_ideal"],
        "ideal": 1.0,
    }


def ray(*more):
    return lambda count, *options: seconds(peer_script(HERE / "ray_tune.py", "--trials", count, *more, *options, package="ray"), count)


def ray_reused():
    take = ray()
    return {"durable_s": take(TRIALS), "asha_s": take(STEPPED, "--asha"), "cold_s": timed(lambda: take(1))}


def ray_fresh():
    """As it comes: a process for each trial, of which twenty are enough to know."""
    few = 20
    return {"durable_s": ray("--fresh")(few) / few * TRIALS}


def study(package):
    def take(work, how, count, known=None):
        result = peer_script(HERE / "optuna_tune.py", package, work, how, "--trials", known or count, package=package)
        return seconds(result, count)

    return take


def optuna_memory():
    take = study("optuna")
    values = {"memory_s": take("trivial", "memory", TRIALS), "asha_s": take("asha", "memory", STEPPED), "tpe_ms": 50 * take("ask", "tpe", 20, KNOWN)}
    for sampler, package, known in (("gp", "torch", KNOWN_GP), ("cma", "cmaes", KNOWN)):
        try:
            version(package)
            values[f"{sampler}_ms"] = 50 * take("ask", sampler, 20, known)
        except Missing:
            pass  # the row stays empty
    return values


def optuna_stored(kind):
    def measure():
        take = study("optuna")
        return {"durable_s": take("trivial", kind, TRIALS), "asha_s": take("asha", kind, STEPPED), "cold_s": timed(lambda: take("trivial", kind, 1))}

    return measure


def rustuna():
    take = study("rustuna")
    return {
        "durable_s": take("trivial", "journal", TRIALS),
        "memory_s": take("trivial", "memory", TRIALS),
        "cold_s": timed(lambda: take("trivial", "journal", 1)),
        "tpe_ms": 50 * take("ask", "tpe", 20, KNOWN),
    }


RAY, RAY_FRESH = "Ray Tune, workers reused", "Ray Tune, as it comes"
MEMORY, JOURNAL, SQLITE, RUSTUNA = "Optuna, in memory", "Optuna, journal", "Optuna, SQLite", "rustuna"
DURABLE, ASHA = "1 000 trials, stored", f"{STEPPED} trials of up to 100 reports under ASHA, stored"


# What the floors stand on was measured on another machine, on which Optuna took 6.8 s with its journal and 59.6 s with SQLite.
ELSEWHERE = "it took three to five times as long on the machine that the floor is from"
FILES = "it writes one journal, ours a folder with two files for each trial beside the database"


def faster(label, key, peer, floor, against="", note="", unit="s"):
    return Row(label, unit, key, key, peer, against, higher_is_better=False, floor=floor, note=note)


COMPARISON = Comparison(
    title="Tune: what a trial and a proposal cost",
    about="Random search over one number, one reported value a trial, or up to 100 under successive halving by three. *Stored* is a folder with SQLite, CSV, JSON lines and TensorBoard "
    "files with us and with Ray, one database or journal with Optuna and rustuna. Ray reuses its worker processes (`reuse_actors=True`), which is its fast way; as it comes it starts one for each trial "
    "(measured at 20 trials, times 50). Starting Ray, imports and creating a store of Optuna's are not counted, except in the first trial, which is a whole process with a stored study of one. "
    "A proposal is asked and told: ten numbers, 1 000 trials known, 200 of the Gaussian process. How good proposals are is measured by `bench/tune/quality.py` ([docs/tune.md](tune.md)).",
    ours=ours,
    peers=[
        Peer(RAY, ray_reused, package="ray"),
        Peer(RAY_FRESH, ray_fresh, package="ray"),
        Peer(MEMORY, optuna_memory, package="optuna"),
        Peer(JOURNAL, optuna_stored("journal"), package="optuna"),
        Peer(SQLITE, optuna_stored("sqlite"), package="optuna"),
        Peer(RUSTUNA, rustuna, package="rustuna"),
    ],
    rows=[
        faster(DURABLE, "durable_s", RAY, 90),
        faster(DURABLE, "durable_s", RAY_FRESH, 3000),
        faster(DURABLE, "durable_s", JOURNAL, 20, note=ELSEWHERE),
        faster(DURABLE, "durable_s", SQLITE, 190, note=ELSEWHERE),
        faster(DURABLE, "durable_s", RUSTUNA, 20, "journal", note=FILES),
        faster("1 000 trials, in memory", "memory_s", MEMORY, 3.3),
        faster("1 000 trials, in memory", "memory_s", RUSTUNA, 0.1, note="it calls the objective on the caller's thread; ours run on slots of their own, timed and guarded against panics"),
        faster(ASHA, "asha_s", RAY, 20),
        faster(ASHA, "asha_s", JOURNAL, 16),
        faster(ASHA, "asha_s", SQLITE, 80),
        faster("the first trial, from the start of the process", "cold_s", RAY, 170),
        faster("the first trial, from the start of the process", "cold_s", JOURNAL, 9),
        faster("the first trial, from the start of the process", "cold_s", RUSTUNA, 1.5, "journal"),
        faster("a proposal of TPE", "tpe_ms", MEMORY, 26, unit="ms"),
        faster("a proposal of TPE", "tpe_ms", RUSTUNA, 1, unit="ms"),
        faster("a proposal of CMA-ES", "cma_ms", MEMORY, 5, unit="ms"),
        faster("a proposal of a Gaussian process", "gp_ms", MEMORY, 8, unit="ms"),
        Row(f"{MANY} sleeping trials, {AT_ONCE} at once: share of the ideal", "", "nap_of_ideal", "ideal", against="nothing but sleep", floor=0.99),
    ],
)
