"""What the scripts of this folder share."""
import json
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))  # so that scripts that import this first find those of bench

# The rules of --budget were found on the second; the first are left out of all tuning, of the joined novels too.
LEFT_OUT = {"dracula", "wizard-of-oz", "jungle-book"}
TUNED_ON = {"pride-and-prejudice", "alice", "five-children", "two-cities", "tinyshakespeare"}


class Results(dict):
    """What was measured, in a JSON file from one measurement to the next, so that nothing need be measured twice."""

    def __init__(self, out):
        self.path = out.with_suffix(".json")
        super().__init__(json.loads(self.path.read_text()) if self.path.exists() else {})

    def save(self):
        self.path.write_text(json.dumps(self, indent=1, sort_keys=True) + "\n")


def split(text, work):
    """A text's first nine tenths and its last one, which is held out, as files in a folder."""
    whole = text.read_text(encoding="utf-8")
    cut = len(whole) - len(whole) // 10
    parts = [work / "train.txt", work / "val.txt"]
    for path, part in zip(parts, (whole[:cut], whole[cut:])):
        path.write_text(part, encoding="utf-8")
    return parts


def call(command):
    """The output of a command; ends the script when it fails."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def train(penwright, parts, run, *flags):
    """Trains a run with the held-out part for validation; the events of its record by kind."""
    call([penwright, "train", parts[0], "--val", parts[1], "--keep-wrapping", "--out", run, "--quiet", *flags])
    events = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        events.setdefault(event["event"], []).append(event)
    return events


def held_out(penwright, run, part, *flags):
    """What a run makes of the held-out part."""
    return json.loads(call([penwright, "eval", run, part, "--json", "--quiet", *flags]))


def faster_in_bf16(step, repeats=5):
    """Whether `step(bf16)` takes less time so than in f32: medians of some steps, the first, which compiles, left out. No where the
    processor cannot do it at all."""
    def cost(bf16):
        times = []
        for _ in range(1 + repeats):
            begun = time.perf_counter()
            step(bf16)
            times.append(time.perf_counter() - begun)
        return statistics.median(times[1:])

    whole = cost(False)
    try:
        return cost(True) < whole
    except RuntimeError:
        return False
