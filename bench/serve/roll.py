#!/usr/bin/env python3
"""Deployments changed under load: a million requests, and every one answered right.

    python3 bench/serve/roll.py                              # 1 000 requests a second for 1 000 s
    python3 bench/serve/roll.py --rate 5000 --requests 200000

An open loop (`air-serve load`) asks two applications of a file, one with a single replica, one with two, while `air-serve deploy` changes the file every
second: another model file, other batching, more or fewer replicas, and now and then a model file that cannot be loaded, which must be refused and change nothing.
Every answer is compared to the byte. It fails (exit code 1) if a request failed, or if a deploy ended otherwise than it should.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare import IRIS, MODEL
from drive import Workload, server
from lib import built

REFUSED_EVERY = 5  # every how many deploys the file names a broken model
ANSWER = '{"result":"versicolor"}'
PATHS = ("/one", "/two")


def file(folder: Path, turn: int) -> dict:
    """What is to be served at a turn; no two that follow one another are alike."""
    broken = turn % REFUSED_EVERY == REFUSED_EVERY - 1

    def application(name, replicas, turn):
        model = folder / ("broken.onnx" if broken else f"model-{turn % 2}.onnx")
        settings = {"name": name, "num_replicas": replicas, "execution": "thread", "max_queued_requests": 1000, "max_batch_size": 1 + turn % 3}
        return {"name": name, "route_prefix": f"/{name}", "import_path": f"onnx://{model}",
                "args": {"labels": ["setosa", "versicolor", "virginica"]}, "deployments": [settings]}

    return {"applications": [application("one", 1, turn), application("two", 2 + turn // 4 % 2, turn + 1)]}


def deploy(folder: Path, turn: int, port: int) -> tuple[float, bool, str]:
    """How long a deploy took, whether it was done, and what was said."""
    path = folder / "serve.json.yaml"  # JSON is YAML
    path.write_text(json.dumps(file(folder, turn)))
    start = time.monotonic()
    done = subprocess.run([built("air-serve"), "deploy", path, "--address", f"http://127.0.0.1:{port}"], capture_output=True, text=True, timeout=120)
    return time.monotonic() - start, done.returncode == 0, done.stdout + done.stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=1000, help="requests a second, of both applications together (1000)")
    parser.add_argument("--every", type=float, default=1, help="seconds from one deploy to the next (1)")
    options = parser.parse_args()
    if options.requests < 1 or not 1 <= options.rate <= 100_000 or options.every < 0:
        parser.error("--requests must be at least 1, --rate from 1 to 100000, --every at least 0")
    duration = options.requests / options.rate
    problems, took, turns = [], [], Counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        original = MODEL.read_bytes()
        (folder / "model-0.onnx").write_bytes(original)
        (folder / "model-1.onnx").write_bytes(original + b"\x32\x01b")  # doc_string, field 6: other bytes, the same model
        (folder / "broken.onnx").write_bytes(original[: len(original) // 2])
        first = folder / "first.yaml"
        first.write_text(json.dumps(file(folder, 0)))
        with server([built("air-serve"), "run", first], Workload("roll", "/one", IRIS.body, IRIS.answer), "roll") as running:
            loads = [subprocess.Popen([str(part) for part in (
                built("air-serve"), "load", f"http://127.0.0.1:{running.port}{path}", "--rate", options.rate / len(PATHS), "--duration", duration,
                "--connections", 32, "--timeout", 30, "--json", "--body", IRIS.body.decode(), "--expect", ANSWER)], stdout=subprocess.PIPE, text=True) for path in PATHS]
            memory = []
            for turn in range(1, 1 << 30):
                if any(load.poll() is not None for load in loads):
                    break
                next_at = time.monotonic() + options.every
                seconds, done, words = deploy(folder, turn, running.port)
                refuse = turn % REFUSED_EVERY == REFUSED_EVERY - 1
                turns["refused" if refuse else "changed"] += 1
                if done == refuse:
                    problems.append(f"deploy {turn} {'was done' if done else 'failed'}: {words.strip()}")
                took.append(seconds)
                memory.append(round(running.memory_mib(), 1))
                time.sleep(max(0, next_at - time.monotonic()))
            reports = [json.loads(load.communicate(timeout=120)[0]) for load in loads]
    asked = sum(status["count"] for report in reports for status in report["statuses"].values())
    for report in reports:
        problems += [f"{report['url']}: {kind} {count}" for kind, count in report["errors"].items() if count]
        problems += [f"{report['url']}: {status['count']} answers of status {code}" for code, status in report["statuses"].items() if code != "200"]
    answered = sum(report["ok"] for report in reports)
    print(json.dumps({
        "requests": asked, "answered_right": answered, "deploys": dict(turns),
        "deploy_s": {"median": round(statistics.median(took), 3), "most": round(max(took), 3)},
        "latency_p99_ms": [report["latency_ms"]["p99"] for report in reports],
        "latency_max_ms": [report["latency_ms"]["max"] for report in reports],
        "memory_mib": memory[:: max(1, len(memory) // 10)],
        "problems": problems[:20],
    }, indent=1))
    return 1 if problems or answered < options.requests * 0.999 else 0


if __name__ == "__main__":
    sys.exit(main())
