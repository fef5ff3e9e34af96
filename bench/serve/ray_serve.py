"""Ray Serve with every workload of the comparison: /hello and /echo, /iris (as in Ray's own quick start), /batch, /bytes.

    python ray_serve.py --port 8101 [--replicas 2]

Serves until it is terminated. `RAY_SERVE_ENABLE_HA_PROXY=1 RAY_SERVE_THROUGHPUT_OPTIMIZED=1` in the environment turn on Ray's own
throughput switches: HAProxy instead of the Python proxy, and user code on the router's loop.
"""

import argparse
import asyncio
import os
import signal
import threading

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray
from ray import serve
from ray.serve.config import HTTPOptions
from starlette.requests import Request

OPTIONS = {"max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": 0}, "logging_config": {"enable_access_log": False}}


@serve.deployment(**OPTIONS)
class Hello:
    async def __call__(self, request: Request):
        return "Hello world!"


@serve.deployment(**OPTIONS)
class Echo:
    async def __call__(self, request: Request):
        return await request.json()


@serve.deployment(**OPTIONS)
class Bytes:
    async def __call__(self, request: Request):
        return len(await request.json())


@serve.deployment(**OPTIONS)
class Boosting:
    def __init__(self):
        from sklearn.datasets import load_iris
        from sklearn.ensemble import GradientBoostingClassifier

        iris = load_iris()
        self.labels = iris.target_names.tolist()
        self.model = GradientBoostingClassifier(random_state=0).fit(iris.data, iris.target)

    async def __call__(self, request: Request):
        vector = (await request.json())["vector"]
        return {"result": self.labels[self.model.predict([vector])[0]]}


@serve.deployment(**OPTIONS)
class Device:
    """Busy for 5 ms with a batch of up to 32, one at a time."""

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002, max_concurrent_batches=1)
    async def run(self, numbers):
        await asyncio.sleep(0.005)  # as a call of a GPU would, it leaves the loop free
        return [{"y": 2 * number} for number in numbers]

    async def __call__(self, request: Request):
        return await self.run((await request.json())["x"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    stop = threading.Event()
    ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=options.port), logging_config=quiet)
    for name, deployment, replicas in (("iris", Boosting, options.replicas), ("hello", Hello, options.replicas), ("echo", Echo, options.replicas),
                                       ("bytes", Bytes, 1), ("batch", Device, 1)):
        serve.run(deployment.options(num_replicas=replicas).bind(), name=name, route_prefix=f"/{name}")
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda *_: stop.set())
    stop.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
