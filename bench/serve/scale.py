#!/usr/bin/env python3
"""How long a deployment takes to follow its load: from the first request of a step to the last replica that it asks for, and back.

    python3 bench/serve/scale.py [--replicas 8] [--runs 3]

A deployment of one replica, autoscaled up to `--replicas` with two requests for each, is asked by 64 connections at once for as long as it takes; its
status is read every 10 ms. It fails (exit code 1) if a request failed or the replicas were not all there within ten seconds.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare import IRIS, MODEL
from drive import Workload, server
from lib import built

CONNECTIONS = 64
LIMIT_S = 10


def running_replicas(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/api/serve/applications/")
    status = json.loads(connection.getresponse().read())
    connection.close()
    deployment = next(iter(status["applications"]["iris"]["deployments"].values()))
    return sum(replica["state"] == "RUNNING" for replica in deployment["replicas"])


def until(port: int, reached, began: float) -> float | None:
    while time.monotonic() < began + LIMIT_S:
        if reached(running_replicas(port)):
            return time.monotonic() - began
        time.sleep(0.01)
    return None


def once(replicas: int) -> tuple[float | None, float | None, int]:
    scaling = {"min_replicas": 1, "max_replicas": replicas, "target_ongoing_requests": 2, "downscale_delay_s": 1}
    settings = {"name": "iris", "execution": "thread", "max_batch_size": 1, "max_queued_requests": 10_000, "autoscaling_config": scaling}
    application = {"name": "iris", "route_prefix": "/iris", "import_path": f"onnx://{MODEL}",
                   "args": {"labels": ["setosa", "versicolor", "virginica"]}, "deployments": [settings]}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "scale.yaml"
        config.write_text(json.dumps({"applications": [application]}))  # JSON is YAML
        with server([built("air-serve"), "run", config], Workload("scale", "/iris", IRIS.body, IRIS.answer), "scale") as running:
            if running_replicas(running.port) != 1:
                raise SystemExit("it did not begin with one replica")
            # More than it can answer, so that every connection always waits.
            load = subprocess.Popen([str(part) for part in (
                built("air-serve"), "load", running.url(IRIS), "--rate", 100_000, "--duration", 4, "--connections", CONNECTIONS, "--timeout", 10,
                "--json", "--body", IRIS.body.decode(), "--expect", '{"result":"versicolor"}')], stdout=subprocess.PIPE, text=True)
            up = until(running.port, lambda count: count == replicas, time.monotonic())
            report = json.loads(load.communicate(timeout=60)[0])
            down = until(running.port, lambda count: count == 1, time.monotonic())
    failed = sum(report["errors"].values()) + sum(status["count"] for code, status in report["statuses"].items() if code != "200")
    return up, down, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    runs = [once(options.replicas) for _ in range(options.runs)]
    late = [run for run in runs if run[0] is None or run[1] is None]
    if not late:
        print(json.dumps({"up_s": round(statistics.median(run[0] for run in runs), 2), "down_s": round(statistics.median(run[1] for run in runs), 2),
                          "up_s_of_runs": [round(run[0], 2) for run in runs]}))
    else:
        print(f"not within {LIMIT_S} s: {runs}", file=sys.stderr)
    failed = sum(run[2] for run in runs)
    if failed:
        print(f"{failed} requests failed", file=sys.stderr)
    return 1 if late or failed else 0


if __name__ == "__main__":
    sys.exit(main())
