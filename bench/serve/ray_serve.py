"""Ray Serve's iris route: scikit-learn's gradient-boosting classifier behind /iris, as in Ray's own quick start.

    python ray_serve.py --port 8101 [--replicas 2]

Serves until it is terminated. `RAY_SERVE_ENABLE_HA_PROXY=1 RAY_SERVE_THROUGHPUT_OPTIMIZED=1` in the environment turn on Ray's own
throughput switches: HAProxy instead of the Python proxy, and user code on the router's loop.
"""

import argparse
import os
import signal
import threading

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray
from ray import serve
from ray.serve.config import HTTPOptions
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0}, logging_config={"enable_access_log": False})
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    stop = threading.Event()
    ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=options.port), logging_config=quiet)
    serve.run(Boosting.options(num_replicas=options.replicas).bind(), route_prefix="/iris")
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda *_: stop.set())
    stop.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
