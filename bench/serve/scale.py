#!/usr/bin/env python3
"""How long a deployment takes to follow its load: from the first request of a step to the last replica that it asks for, and back.

    python3 bench/serve/scale.py [--runs 3]

A device that is busy for 5 ms with each request is one replica, autoscaled up to eight with two requests for each; it is asked 1 000 times a second, which is
work for five. Its status is read every 10 ms. It fails (exit code 1) if a request failed or the replicas were not there within ten seconds.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from drive import Workload, server
from lib import built

SCALE = Workload("scale", "/scale", b'{"x":2.0}', {"y": 4.0})
REPLICAS = 8
LIMIT_S = 10


def running_replicas(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/-/status")
    status = json.loads(connection.getresponse().read())
    connection.close()
    deployments = [application["deployments"]["scale"] for application in status["applications"].values() if "scale" in application["deployments"]]
    return deployments[0]["replica_states"].get("RUNNING", 0)


def until(port: int, reached, began: float) -> float | None:
    while time.monotonic() < began + LIMIT_S:
        if reached(running_replicas(port)):
            return time.monotonic() - began
        time.sleep(0.01)
    return None


def once() -> tuple[float | None, float | None, int]:
    with server([built("bench_serve")], SCALE, "scale") as running:
        if running_replicas(running.port) != 1:
            raise SystemExit("it did not begin with one replica")
        load = subprocess.Popen([str(part) for part in (
            built("air-serve"), "load", running.url(SCALE), "--rate", 1000, "--duration", 4, "--connections", 200, "--timeout", 30,
            "--json", "--body", SCALE.body.decode(), "--expect", '{"y":4.0}')], stdout=subprocess.PIPE, text=True)
        up = until(running.port, lambda count: count == REPLICAS, time.monotonic())
        report = json.loads(load.communicate(timeout=60)[0])
        down = until(running.port, lambda count: count == 1, time.monotonic())
    failed = sum(report["errors"].values()) + sum(status["count"] for code, status in report["statuses"].items() if code != "200")
    return up, down, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    runs = [once() for _ in range(options.runs)]
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
