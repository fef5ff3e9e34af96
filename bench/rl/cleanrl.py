"""CleanRL's own ppo.py, unchanged, until CartPole-v1 has returned 475.

    python cleanrl.py ppo [--seed 1] [--limit 120]       with $AIR_BENCH_CLEANRL, the path of its ppo.py

Its writer of TensorBoard files is replaced by what counts episodes. It needs Gymnasium 0.29, NumPy 1 and tyro.
"""

import os
import runpy
import sys
import types

from until import Until, arguments


class Stop(Exception):
    pass


class Writer:
    last = None

    def __init__(self, *_):
        Writer.last, self.until, self.step = self, Until(475.0, ARGS.limit), 0

    def add_text(self, *_):
        pass

    def add_scalar(self, tag, value, step):
        self.step = step
        if tag == "charts/episodic_return" and self.until.episode(float(value), step):
            raise Stop

    def close(self):
        pass


ARGS = arguments("ppo")
tensorboard = types.ModuleType("torch.utils.tensorboard")
tensorboard.SummaryWriter = Writer
sys.modules["torch.utils.tensorboard"] = tensorboard
sys.argv = [os.environ["AIR_BENCH_CLEANRL"], "--seed", str(ARGS.seed), "--no-cuda"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except Stop:
    pass
Writer.last.until.tell(Writer.last.step)
