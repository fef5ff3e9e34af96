"""Ray's own microbenchmark, test for test; and calls beside what our own runtime stands on."""

from pathlib import Path

from lib import OUT, Comparison, Peer, Row, built, python, run, run_json, run_measures, version

HERE = Path(__file__).parent


def ours():
    bench = {name: measured["value"] for name, measured in run_json([built("air-core"), "bench", "--json"]).items()}
    return bench | run_measures([built("ray_perf")])


def ray():
    version("ray")
    return run_measures([python(), HERE / "ray_core.py"]) | run_measures([python(), HERE / "ray_perf.py"])


def gloo():
    version("torch")
    return run_measures([python(), HERE / "gloo.py"])


def mpi_version():
    return run(["mpirun", "--version"]).split("\n")[0].split()[-1]


def mpi():
    """OpenMPI through shared memory, of two processes that nobody pins."""
    mpi_version()
    program = OUT / "mpi_all_reduce"
    OUT.mkdir(exist_ok=True)
    run(["mpicc", "-O3", "-march=native", HERE / "mpi_all_reduce.c", "-o", program])
    shared_memory = ["--mca", "btl", "vader,self", "--mca", "pml", "ob1", "--bind-to", "none"]
    environment = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return run_measures(["mpirun", "-np", 2, *shared_memory, program], env=environment)


# Ray's name of each test, and the ratio we claim.
TESTS = {
    "1:1 actor calls sync": 50,
    "1:1 actor calls async": 300,
    "1:n actor calls async": 300,
    "n:n actor calls async": 100,
    "n:n actor calls with arg async": 100,
    "multi client tasks async": 100,
    "single client tasks sync": 50,
    "single client tasks async": 200,
    "single client tasks and get batch": 100,
    "single client wait 1k refs": 100,
    "single client get object containing 10k refs": 100,
    "single client get calls (Plasma Store)": 100,
    "single client put calls (Plasma Store)": 100,
    "multi client put calls (Plasma Store)": 100,
    "single client put gigabytes": 100,
    "multi client put gigabytes": 5,
    "placement group create/removal": 100,
}
BARE = {
    "actix": "an actix mailbox: what our workers stand on, without exits, restarts, deadlines or a bound on asks",
    "tokio": "tokio's mpsc channel with a oneshot for the reply",
    "crossbeam": "a crossbeam channel with another for the reply: two threads and nothing else",
}


def rows():
    for test, floor in TESTS.items():
        unit = "GB/s" if "gigabytes" in test else "1/s"
        yield Row(test, unit, test, test, "Ray", floor=floor)
    for ours, many in (("sync", "one at a time"), ("async_64", "64 in flight")):
        yield Row(f"ask, {many}", "calls/s", f"ask_{ours}", f"actor_{ours}", "Ray", against="actor calls", floor=50)
        for bare, note in BARE.items():
            yield Row(f"ask, {many}", "calls/s", f"ask_{ours}", f"bare_{bare}_{ours}", against=f"bare {bare}", floor=0.8, note=note)
    for who, names in (("both workers", ("ask_between_workers", "bare_actix_between_actors")), ("a future and a worker", ("ask_one_thread", "bare_actix_one_thread"))):
        yield Row(f"ask, {who} on one thread", "s", *names, against="bare actix", higher_is_better=False, floor=0.83,
                  note="deadlines, exits, and a queue that outlives the worker")
    yield Row("ask, both sides asleep", "s", "ask_parked", "bare_actix_parked", against="bare actix", higher_is_better=False, floor=0.95,
              note="waking a thread twice; what is left is the kernel's")
    for size, name in (("4kib", "4 KiB"), ("4mib", "4 MiB"), ("64mib", "64 MiB")):
        reduced = (f"all-reduce of {name}, 2 ranks", "GiB/s", f"all_reduce_{size}_2_ranks")
        yield Row(*reduced, f"gloo_{size}", "gloo", floor=1.0)
        yield Row(*reduced, f"mpi_{size}", "OpenMPI", floor=1.0)
        yield Row(*reduced, f"reduce_limit_{size}", against="what the memory allows", floor=0.6,
                  note="both ranks read and write half of each buffer at once, and never meet")


COMPARISON = Comparison(
    title="Core: calls, tasks and objects",
    about="The first rows are the tests of Ray's own microbenchmark (`ray microbenchmark`, `ray/_private/ray_perf.py`), named as there, with its loops: "
    "*sync* waits for each reply, *async* has 1 000 in flight. The others: one caller, one worker on another thread whose handler does nothing; the bare "
    "libraries run the same loop in our process (`air-core bench`). They are what lies underneath, so about 1× is the aim.",
    ours=ours,
    peers=[Peer("Ray", ray, package="ray"), Peer("gloo", gloo, package="torch"), Peer("OpenMPI", mpi, asks=mpi_version)],
    rows=list(rows()),
)
