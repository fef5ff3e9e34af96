"""Optuna's and rustuna's times for studies whose trials do nothing, and for proposals.

    python optuna_tune.py {optuna|rustuna} trivial {memory|journal|sqlite} [--trials 1000]
    python optuna_tune.py optuna asha {memory|journal|sqlite}
    python optuna_tune.py {optuna|rustuna} ask {tpe|gp|cma} --trials 1000

Prints {"seconds": s, "trials": n}. `trivial`: random search over one number, the value returned. `asha`: 100 trials of up to 100 reports under successive halving by
three. `ask`: asking for ten numbers and telling a value, 20 times, with so many trials known: of Optuna's drawn at random, of rustuna's by the sampler itself. What is timed is
the study alone, without imports and without creating its storage.
"""

import argparse
import json
import random
import tempfile
import time
import warnings

ASKS, NUMBERS, REPORTS = 20, 10, 100


def storage(package, kind, folder):
    if kind == "memory":
        return None
    if package.__name__ == "rustuna":
        return package.storages.SQLite3Storage(f"{folder}/s.db") if kind == "sqlite" else package.storages.JournalFileStorage(f"{folder}/s.log")
    if kind == "sqlite":
        return f"sqlite:///{folder}/s.db"
    return package.storages.JournalStorage(package.storages.journal.JournalFileBackend(f"{folder}/s.log"))


def trivial(trial):
    return trial.suggest_float("x", 0, 1)


def stepped(package):
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        for step in range(1, REPORTS + 1):
            trial.report(x / step, step)
            if trial.should_prune():
                raise package.TrialPruned
        return x / REPORTS

    return objective


def proposals(package, name, known):
    sampler = getattr(package.samplers, {"tpe": "TPESampler", "gp": "GPSampler", "cma": "CmaEsSampler"}[name])(seed=0)
    value = lambda xs: sum((x - 0.3) ** 2 for x in xs)
    if package.__name__ == "rustuna":
        study = package.create_study(sampler=sampler)
        study.optimize(lambda trial: value([trial.suggest_float(f"x{at}", 0, 1) for at in range(NUMBERS)]), n_trials=known)
    else:
        study = package.create_study(sampler=sampler)
        spaces = {f"x{at}": package.distributions.FloatDistribution(0, 1) for at in range(NUMBERS)}
        draw = random.Random(0)
        for _ in range(known):
            params = {path: draw.random() for path in spaces}
            study.add_trial(package.trial.create_trial(params=params, distributions=spaces, value=value(params.values())))
    begin = time.perf_counter()
    for _ in range(ASKS):
        trial = study.ask()
        found = value([trial.suggest_float(f"x{at}", 0, 1) for at in range(NUMBERS)])
        study.tell(trial if package.__name__ == "optuna" else trial.number, found)
    return time.perf_counter() - begin, ASKS


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=["optuna", "rustuna"])
    parser.add_argument("work", choices=["trivial", "asha", "ask"])
    parser.add_argument("how")
    parser.add_argument("--trials", type=int)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    package = __import__(options.package)
    if options.package == "optuna":
        package.logging.set_verbosity(package.logging.ERROR)
    if options.work == "ask":
        seconds, count = proposals(package, options.how, options.trials or 1000)
    else:
        asha = options.work == "asha"
        with tempfile.TemporaryDirectory() as folder:
            pruner = {"pruner": package.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)} if asha else {}
            study = package.create_study(storage=storage(package, options.how, folder), sampler=package.samplers.RandomSampler(seed=0), **pruner)
            begin = time.perf_counter()
            study.optimize(stepped(package) if asha else trivial, n_trials=options.trials or (100 if asha else 1000))
            seconds, count = time.perf_counter() - begin, len(study.trials)
    print(json.dumps({"seconds": seconds, "trials": count}))


if __name__ == "__main__":
    main()
