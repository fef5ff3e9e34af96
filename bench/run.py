#!/usr/bin/env python3
"""Runs the comparisons with other systems and writes docs/figures.md.

    python3 bench/run.py                     # all of them
    python3 bench/run.py --only core,tune    # some; the others keep the figures of their last run
    python3 bench/run.py --list              # what there is, and which peers are missing here
    python3 bench/run.py --render            # rewrite docs/figures.md from bench/out/ without measuring

The sides take turns (ours, peer, ours, peer, …) so that a noisy minute hurts both, and the table has the median of the runs.
"""

import argparse
import datetime
import importlib.util
import json
import os
import platform
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lib import BENCH, OUT, ROOT, Comparison, Failed, Missing, Row, run

FIGURES = ROOT / "docs" / "figures.md"


def load(area: str) -> Comparison:
    spec = importlib.util.spec_from_file_location(f"compare_{area}", BENCH / area / "compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.COMPARISON


def areas() -> list[str]:
    order = ["core", "data", "train", "tune", "serve", "rl"]
    found = [path.parent.name for path in BENCH.glob("*/compare.py")]
    return sorted(found, key=lambda area: (order.index(area) if area in order else len(order), area))


def machine() -> str:
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rustc = run(["rustc", "--version"]).split()[1]
    return (f"{cpu}, {os.cpu_count()} cores, {gib:.0f} GiB, Linux {platform.release()}, rustc {rustc}, "
            f"Python {platform.python_version()}")


def sides(comparison: Comparison) -> dict[str, tuple]:
    """Name -> (how it is shown, its measurement); our side first, under the name None."""
    result = {None: ("AIR", comparison.ours)}
    for peer in comparison.peers:
        result[peer.name] = (peer.name, peer.measure)
    return result


def measure(area: str, comparison: Comparison, runs: int) -> dict:
    taken: dict[str | None, list[dict]] = {}
    absent: dict[str | None, str] = {}
    shown: dict[str | None, str] = {None: "AIR"}
    for peer in comparison.peers:
        shown[peer.name] = peer.name
        try:
            shown[peer.name] = f"{peer.name} {peer.version()}".strip()
        except Missing as error:
            absent[peer.name] = f"missing: {error}"
            say(area, f"{peer.name} is left out: {error}")
    for turn in range(runs):
        for name, (label, take) in sides(comparison).items():
            if name in absent:
                continue
            try:
                values = take()
            except (Missing, Failed) as error:
                absent[name] = f"{type(error).__name__.lower()}: {error}"
                say(area, f"{label} {absent[name]}")
                continue
            taken.setdefault(name, []).append(values)
            say(area, f"{label} {turn + 1}/{runs}: " + ", ".join(f"{key} {number(value)}" for key, value in values.items()))
    return {
        "area": area,
        "title": comparison.title,
        "about": comparison.about,
        "machine": machine(),
        "load": round(os.getloadavg()[0], 2),
        "commit": run(["git", "rev-parse", "--short", "HEAD"]).strip(),
        "date": datetime.date.today().isoformat(),
        "runs": runs,
        "values": {name or "AIR": values for name, values in taken.items()},
        "absent": {name or "AIR": why for name, why in absent.items()},
        "rows": [tabled(row, taken, shown) for row in comparison.rows],
    }


def median(taken: dict, side: str | None, key: str) -> float | None:
    values = [values[key] for values in taken.get(side, []) if values.get(key) is not None]
    return statistics.median(values) if values else None


def tabled(row: Row, taken: dict, shown: dict) -> dict:
    """One row's figures: medians, and how many times better we are."""
    ours, theirs = median(taken, None, row.ours), median(taken, row.peer, row.theirs)
    ratio = None
    if ours and theirs:
        ratio = ours / theirs if row.higher_is_better else theirs / ours
    return {
        "label": row.label,
        "unit": row.unit,
        "ours": ours,
        "peer": f"{shown.get(row.peer, '') if row.peer else ''} {row.against}".strip(),
        "theirs": theirs,
        "ratio": ratio,
        "floor": row.floor,
        "note": row.note,
    }


def number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def render() -> str:
    """The Markdown of every comparison whose figures lie in bench/out/."""
    found = [json.loads((OUT / f"{area}.json").read_text()) for area in areas() if (OUT / f"{area}.json").exists()]
    lines = ["# Figures", "", "Written by `python3 bench/run.py`; [bench/README.md](../bench/README.md) says how to repeat it.",
             "Each figure is the median of the runs, the sides taking turns on one machine; a ratio above 1 means AIR is better."]
    machines = {result["machine"] for result in found}
    if len(machines) == 1:
        lines += ["", f"Machine: {machines.pop()}."]
    for result in found:
        lines += ["", f"## {result['title']}", "", result["about"], ""]
        lines += ["| what | AIR | peer | | ratio |", "|---|--:|---|--:|--:|"]
        notes = []
        for row in result["rows"]:
            ratio, mark = "–", ""
            if row["ratio"] is not None:
                ratio = f"{row['ratio']:.1f}×" if row["ratio"] < 100 else f"{number(row['ratio'])}×"
                if row["ratio"] < row["floor"]:
                    ratio = f"**{ratio}**"
                    mark = f" (below {row['floor']:g}×)"
            if row["note"] or mark:
                notes.append(f"- {row['label']}, {row['peer']}{mark}: {row['note'] or 'no reason recorded yet'}")
            ours, theirs = (f"{number(row[side])} {row['unit']}" if row[side] is not None else "–" for side in ("ours", "theirs"))
            lines.append(f"| {row['label']} | {ours} | {row['peer']} | {theirs} | {ratio} |")
        notes += [f"- {side}: {why.splitlines()[0]}" for side, why in result["absent"].items()]
        lines += ["", *dict.fromkeys(notes)] if notes else []
        where = "" if len({r["machine"] for r in found}) == 1 else f", {result['machine']}"
        lines += ["", f"`python3 bench/run.py --only {result['area']}`: {result['date']}, commit {result['commit']}, "
                  f"{result['runs']} runs{where}."]
    return "\n".join(lines) + "\n"


def say(area: str, text: str) -> None:
    print(f"{area}: {text}", flush=True)


def show_list() -> None:
    for area in areas():
        comparison = load(area)
        print(f"{area}: {comparison.title}")
        for peer in comparison.peers:
            try:
                state = peer.version() or "built here"
            except Missing as error:
                state = f"missing: {error}"
            print(f"    {peer.name}: {state}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="AREA,…", help="run these comparisons only")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side (3)")
    parser.add_argument("--list", action="store_true", help="list the comparisons and the peers found, run nothing")
    parser.add_argument("--render", action="store_true", help="rewrite docs/figures.md from the last figures, run nothing")
    options = parser.parse_args()
    if options.list:
        show_list()
        return 0
    chosen = options.only.split(",") if options.only else areas()
    unknown = set(chosen) - set(areas())
    if unknown:
        parser.error(f"no comparison {', '.join(sorted(unknown))}; there are {', '.join(areas())}")
    OUT.mkdir(exist_ok=True)
    failed = False
    if not options.render:
        for area in chosen:
            result = measure(area, load(area), options.runs)
            failed |= any(why.startswith("failed") for why in result["absent"].values())
            (OUT / f"{area}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(render())
    print(f"wrote {FIGURES.relative_to(ROOT)} and {OUT.relative_to(ROOT)}/")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
