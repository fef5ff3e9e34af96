"""Environments in Python, stepped for air-rl; started with one argument, a JSON object {name, kwargs, envs}; without envs for one of several agents.

Standard output is a socket: commands and answers are single bytes, longer messages JSON after their length in eight digits. Rows lie in
a mapped file. Needs nothing but the standard library; NumPy is used where the environment has brought it.
"""
import json
import math
import mmap
import os
import select
import socket
import sys
import traceback
from array import array
from importlib import import_module

TERMINATED, TRUNCATED, LOST = 1, 2, 4
AWAKE = 100  # looks for the next command before sleeping: waking up takes longer than a step
FAMILIES = "butterfly", "sisl", "mpe", "atari", "classic"  # of PettingZoo
TEXT = 2000  # characters of an exception that are told


def told():
    """The exception in hand, in a line; its traceback goes to standard error."""
    traceback.print_exc()
    return "".join(traceback.format_exception_only(*sys.exc_info()[:2])).strip()[:TEXT]


def exactly(count):
    data = b""
    while len(data) < count:
        more = wire.recv(count - len(data))
        if not more:
            raise SystemExit
        data += more
    return data


def say(value):
    text = json.dumps(value).encode()
    wire.sendall(b"%08d" % len(text) + text)


def maker(name, kwargs):
    kind, _, rest = name.partition(":")
    if kind == "py":
        module, _, attribute = rest.partition(":")
        return lambda: getattr(import_module(module), attribute)(**kwargs)
    if kind == "pettingzoo":
        make = parallel(rest)
        return lambda: make(**kwargs)
    try:
        gymnasium = import_module("gymnasium")
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{sys.executable} has no gymnasium; name a Python that has it") from error

    def make():
        env = gymnasium.make(rest, disable_env_checker=True, **kwargs)
        if type(env.observation_space).__name__ in ("Dict", "Tuple"):
            env = gymnasium.wrappers.FlattenObservation(env)
        return env

    return make


def parallel(rest):
    """What makes a parallel environment, from the whole name of its module or the name within PettingZoo."""
    names = [rest, "pettingzoo." + rest] + [f"pettingzoo.{family}.{rest}" for family in FAMILIES]
    for name in names:
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if not (name + ".").startswith(str(error.name) + "."):
                raise  # the module is there, what it needs is not
            continue
        if hasattr(module, "parallel_env"):
            return module.parallel_env
    raise RuntimeError(f"{sys.executable} has none of {', '.join(names)} with a parallel_env; name a Python that has PettingZoo and the environment")


def flat(x):
    if hasattr(x, "tolist"):
        x = x.tolist()
    if isinstance(x, (list, tuple)):
        for item in x:
            yield from flat(item)
    else:
        yield x


def bounds(row):
    """JSON has no infinity: such a bound is text."""
    return [x if math.isfinite(x) else str(x) for x in map(float, flat(row))]


class Rows:
    """What a space is: how air-rl writes it, and the shape of its elements."""

    def __init__(self, space):
        self.start = 0
        if hasattr(space, "nvec") or hasattr(space, "low"):
            if any(flat(getattr(space, "start", 0))):
                raise TypeError(f"the space {space} does not start at 0")
            self.shape = tuple(space.shape)
        if hasattr(space, "nvec"):
            self.json = {"MultiDiscrete": {"nvec": [int(n) for n in flat(space.nvec)]}}
            self.dtype = "int64"
        elif hasattr(space, "low"):
            self.json = {"Box": {"low": bounds(space.low), "high": bounds(space.high), "shape": list(self.shape)}}
            self.dtype = str(getattr(space, "dtype", "float32"))
        elif hasattr(getattr(space, "n", None), "__index__"):
            self.shape = tuple(getattr(space, "shape", None) or ())
            if self.shape:  # MultiBinary
                self.json, self.dtype = {"MultiDiscrete": {"nvec": [2] * int(space.n)}}, "int8"
            else:
                self.json, self.dtype = {"Discrete": {"n": int(space.n)}}, None
                self.start = int(getattr(space, "start", 0))
        else:
            raise TypeError(f"cannot use the space {space}: it must be a Box, Discrete, MultiDiscrete or MultiBinary; wrap the environment")


class Envs:
    def __init__(self, make, envs, layout, memory, observed, acted):
        np = self.np = sys.modules.get("numpy")
        self.make, self.envs, self.observed, self.acted, count = make, envs, observed, acted, len(envs)
        part = lambda name, code, items: memory[layout[name]:layout[name] + items * array(code).itemsize].cast(code)
        d, k, m = layout["obs_len"], layout["action_len"], layout["mask_len"]
        self.d, self.k, self.m = d, k, m
        self.seeds, self.reward, self.flags = part("seeds", "Q", count), part("reward", "d", count), part("flags", "B", count)
        self.mask = part("mask", "B", count * m)
        self.actions = part("actions", "f" if "Box" in acted.json else "I", count * k)
        self.obs, self.final = part("obs", "f", count * d), part("final", "f", count * d)
        if np is not None:
            view = lambda rows: np.frombuffer(rows, np.float32).reshape((count,) + observed.shape)
            self.obs_rows, self.final_rows = view(self.obs), view(self.final)

    def put(self, i, x, info):
        if self.np is not None:
            if self.np.shape(x) != self.observed.shape:
                raise ValueError(f"an observation of shape {self.np.shape(x)}; its space has {self.observed.shape}")
            self.obs_rows[i] = x
            if self.observed.start:
                self.obs_rows[i] -= self.observed.start
        else:
            row = array("f", (v - self.observed.start for v in flat(x)))
            if len(row) != self.d:
                raise ValueError(f"an observation of {len(row)} items; its space has {self.d}")
            self.obs[i * self.d:(i + 1) * self.d] = row
        if self.m:
            self.mask[i * self.m:(i + 1) * self.m] = bytes(1 if v else 0 for v in flat(info["action_mask"]))

    def action(self, taken, i):
        if self.acted.dtype is None:
            return taken[i] + self.acted.start
        row = taken[i * self.k:(i + 1) * self.k]
        if self.np is None:
            return row
        return self.np.array(row, self.acted.dtype).reshape(self.acted.shape)

    def reset(self):
        for i, env in enumerate(self.envs):
            self.reward[i], self.flags[i] = 0.0, 0
            self.put(i, *env.reset(seed=self.seeds[i]))

    def step(self):
        failures, taken = [], self.actions.tolist()
        for i, env in enumerate(self.envs):
            try:
                obs, reward, terminated, truncated, info = env.step(self.action(taken, i))
                self.put(i, obs, info)
                self.reward[i] = reward
                self.flags[i] = (TERMINATED if terminated else 0) | (TRUNCATED if truncated else 0)
                if terminated or truncated:
                    self.final[i * self.d:(i + 1) * self.d] = self.obs[i * self.d:(i + 1) * self.d]
                    self.put(i, *env.reset())
            except Exception:
                failures.append(told())
                self.replace(i)
        return failures

    def replace(self, i):
        """Another environment for one that failed."""
        try:
            self.envs[i].close()
        except Exception:
            pass
        self.envs[i] = self.make()
        self.seeds[i] = (self.seeds[i] + 1) % 2**64
        self.put(i, *self.envs[i].reset(seed=self.seeds[i]))
        self.reward[i], self.flags[i] = 0.0, LOST | TRUNCATED


class Parallel:
    """One environment with PettingZoo's parallel interface, a row for each of its agents.

    All begin and end together: one that is done before the others sees zeros and is paid nothing until all are.
    """

    def __init__(self, make, env, names, observed, acted, layout, memory):
        np = self.np = sys.modules.get("numpy")
        self.make, self.env, self.names, self.observed, self.acted, count = make, env, names, observed, acted, len(names)
        part = lambda name, code, items: memory[layout[name]:layout[name] + items * array(code).itemsize].cast(code)
        self.d, self.k = layout["obs_len"], layout["action_len"]
        self.seeds, self.reward, self.flags = part("seeds", "Q", count), part("reward", "d", count), part("flags", "B", count)
        self.choices, self.reals = part("actions", "I", count * self.k), part("actions", "f", count * self.k)
        self.obs = part("obs", "f", count * self.d)
        self.rows = None if np is None else np.frombuffer(self.obs, np.float32).reshape(count, self.d)
        self.seed, self.replaced, self.live, self.ends = 0, False, set(), [0] * count

    def put(self, i, x):
        space = self.observed[i]
        size = math.prod(space.shape)
        if self.np is not None:
            if self.np.shape(x) != space.shape:
                raise ValueError(f"an observation of shape {self.np.shape(x)} for {self.names[i]}; its space has {space.shape}")
            self.rows[i, :size] = self.np.reshape(x, -1)
            self.rows[i, :size] -= space.start
        else:
            row = array("f", (v - space.start for v in flat(x)))
            if len(row) != size:
                raise ValueError(f"an observation of {len(row)} items for {self.names[i]}; its space has {size}")
            self.obs[i * self.d:i * self.d + size] = row

    def black(self, i):
        self.obs[i * self.d:(i + 1) * self.d] = array("f", bytes(4 * self.d))

    def action(self, i):
        space = self.acted[i]
        if space.dtype is None:
            return self.choices[i * self.k] + space.start
        cells = self.reals if "Box" in space.json else self.choices
        row = cells[i * self.k:i * self.k + math.prod(space.shape)]
        return row if self.np is None else self.np.array(row, space.dtype).reshape(space.shape)

    def reset(self):
        self.seed, self.replaced = self.seeds[0], True
        self.begin()

    def begin(self):
        # A fresh one must be given a seed, or its run would not repeat.
        brought = self.env.reset(seed=self.seed) if self.replaced else self.env.reset()
        self.replaced = False
        obs = brought[0] if isinstance(brought, tuple) else brought
        self.live = set(self.env.agents)
        self.ends = [0] * len(self.names)
        for i, name in enumerate(self.names):
            self.reward[i], self.flags[i] = 0.0, 0
            self.put(i, obs[name]) if name in self.live else self.black(i)

    def step(self):
        try:
            taken = {name: self.action(i) for i, name in enumerate(self.names) if name in self.live}
            obs, rewards, terminated, truncated, _ = self.env.step(taken)
            for i, name in enumerate(self.names):
                if name not in self.live:
                    self.reward[i] = 0.0
                    self.black(i)
                    continue
                self.put(i, obs[name])
                self.reward[i] = rewards[name]
                self.ends[i] = (TERMINATED if terminated.get(name) else 0) | (TRUNCATED if truncated.get(name) else 0)
            self.live = {name for i, name in enumerate(self.names) if name in self.live and not self.ends[i]} & set(self.env.agents)
            for i, end in enumerate(self.ends):
                self.flags[i] = 0 if self.live else end or TRUNCATED
        except Exception:
            said = told()
            try:
                self.env.close()
            except Exception:
                pass
            self.env, self.replaced, self.seed = self.make(), True, (self.seed + 1) % 2**64
            for i in range(len(self.names)):
                self.reward[i], self.flags[i] = 0.0, LOST | TRUNCATED
            return [said]


def serve(envs):
    poll = select.poll()
    poll.register(wire, select.POLLIN)
    while True:
        for _ in range(AWAKE):
            if poll.poll(0):
                break
        verb = wire.recv(1)
        if not verb:
            return
        failures = {b"r": envs.reset, b"s": envs.step, b"b": getattr(envs, "begin", None)}[verb]()
        wire.sendall(b"f" if failures else b"k")
        if failures:
            say(failures[:8])


def shared():
    layout = json.loads(exactly(int(exactly(8))))
    with open(layout["path"], "r+b") as file:
        return layout, memoryview(mmap.mmap(file.fileno(), layout["bytes"]))


def agents(make, env):
    names = list(env.possible_agents)
    observed, acted = [Rows(env.observation_space(name)) for name in names], [Rows(env.action_space(name)) for name in names]
    wire.sendall(b"i")
    say({"agents": [
        {"name": str(name), "observation_space": o.json, "action_space": a.json} for name, o, a in zip(names, observed, acted)
    ]})
    return Parallel(make, env, names, observed, acted, *shared())


def main():
    spec = json.loads(sys.argv[1])
    try:
        make = maker(spec["name"], spec["kwargs"])
        first = make()
        if spec["envs"] is None:
            envs = agents(make, first)
            wire.sendall(b"k")
            return serve(envs)
        observed, acted = Rows(first.observation_space), Rows(first.action_space)
        mask = first.reset(seed=0)[1].get("action_mask")
        masked = mask is not None and "Box" not in acted.json
        wire.sendall(b"i")
        say({"observation_space": observed.json, "action_space": acted.json, "masked": masked})
        layout, memory = shared()
        envs = [first] + [make() for _ in range(spec["envs"] - 1)]
        envs = Envs(make, envs, layout, memory, observed, acted)
        wire.sendall(b"k")
        serve(envs)
    except Exception:
        text = told()
        wire.sendall(b"e")
        say(text)
        raise SystemExit(1)


if __name__ == "__main__":
    wire = socket.socket(fileno=os.dup(1))
    os.dup2(2, 1)  # what environments print goes to standard error
    main()
