"""1 000 trials that do nothing, beside Ray Tune: what a trial costs before it does any work."""

from pathlib import Path

from lib import Comparison, Failed, Peer, Row, built, peer_script, run_json

HERE = Path(__file__).parent
TRIALS = 1000


def seconds(result):
    if result["trials"] != TRIALS:
        raise Failed(f"{result['trials']} trials finished instead of {TRIALS}")
    return {"seconds": result["seconds"]}


def ours():
    return seconds(run_json([built("trivial"), "--trials", TRIALS, "--json"]))


def ray():
    return seconds(peer_script(HERE / "ray_tune.py", "--trials", TRIALS, package="ray"))


COMPARISON = Comparison(
    title="Tune: 1 000 trivial trials",
    about="Random search over one uniform parameter, one reported value a trial, results stored on disk by both sides. Ray reuses its "
    "worker processes (`reuse_actors=True`; its default starts a process for every trial, about a second each). Starting Ray is not "
    "counted.",
    ours=ours,
    peers=[Peer("Ray Tune", ray, package="ray")],
    rows=[Row("1 000 trials", "s", "seconds", "seconds", "Ray Tune", higher_is_better=False)],
)
