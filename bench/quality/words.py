"""The AWD-LSTM over words, here and in PyTorch: perplexity after each epoch and what an epoch takes; writes a table.

    python bench/quality/words.py TEXT... --venv .venv-peers

The texts are joined and cut into words (prepare_words.py, 10,000 of them, the last tenth held out). Both sides have the settings of
Merity, Keskar and Socher (2018). With those a single step moves the perplexity by several percent, up or down: so both sides validate an
exponential average of the weights, whose decay is AVERAGE, at CHECKS places of each epoch. A side that is in the results already is
not run again. --at-once runs both at the same time, with the same threads each: what else the machine does then slows both alike.
"""
import argparse
import concurrent.futures
import json
import math
import pathlib
import sys
import tempfile
from itertools import zip_longest

from common import Results, call, train
import between

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHECKS = 2
AVERAGE = 0.99
SHAPE = ("--layers", 3, "--embed", 400, "--batch", 20)
AWD = ("--model", "lstm", "--level", "word", "--word-format", "ptb", "--width", 1150, "--tied", "--context", 70, "--random-length",
       "--dropout-input", 0.4, "--dropout-hidden", 0.25, "--dropout-output", 0.4, "--dropout-embed", 0.1, "--weight-drop", 0.5,
       "--ar", 2, "--tar", 1, "--optimizer", "sgd", "--lr", 30, "--momentum", 0, "--schedule", "constant", "--warmup", 0)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("texts", nargs="+", type=pathlib.Path)
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--sides", nargs="+", choices=("penwright", "torch"), default=("penwright", "torch"))
    p.add_argument("--venv", type=pathlib.Path, default=ROOT / ".venv-peers")
    p.add_argument("--penwright", type=pathlib.Path, default=ROOT / "target/release/penwright")
    p.add_argument("--threads", type=int, default=2, help="of each side")
    p.add_argument("--at-once", action="store_true")
    p.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/results/words", help="without ending")
    p.add_argument("--into", type=pathlib.Path, help="a page that gets the table too, between two comments")
    a = p.parse_args()
    results = Results(a.out)
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        print(call([sys.executable, HERE / "prepare_words.py", work, *a.texts]), end="", file=sys.stderr)
        missing = [side for side in a.sides if side not in results]
        with concurrent.futures.ThreadPoolExecutor(2 if a.at_once else 1) as pool:
            runs = {pool.submit(penwright if side == "penwright" else torch, a, work): side for side in missing}
            for run in concurrent.futures.as_completed(runs):
                results[runs[run]] = {"threads": a.threads, "at_once": a.at_once, **run.result()}
                results.save()
    a.out.with_suffix(".md").write_text(page(results))
    if a.into:
        between.put("words", table(results), a.into)
    print(page(results))


def torch(a, work):
    epochs = call([a.venv / "bin/python", HERE / "torch_words.py", work / "train.txt", work / "val.txt", *SHAPE, "--threads", a.threads,
                   "--epochs", a.epochs, "--checks", CHECKS, "--decay", AVERAGE])
    epochs = [json.loads(line) for line in epochs.splitlines()]
    return {"precision": epochs[0]["precision"], "perplexities": [e["perplexities"] for e in epochs], "seconds": [e["seconds"] for e in epochs]}


def penwright(a, work):
    parts = [work / "train.txt", work / "val.txt"]
    flags = [*SHAPE, *AWD, "--average", AVERAGE, "--threads", a.threads, "--epochs", a.epochs]
    plan = json.loads(call([a.penwright, "train", parts[0], "--val", parts[1], *flags, "--dry-run", "--json"]))
    every = round(plan["steps"] / a.epochs / CHECKS)
    events = train(a.penwright, parts, work / "run", *flags, "--eval-every", every, "--sample-every", 0)
    # The end of training is validated too: as the last check where that is still to come, else as one too many.
    checks = [math.exp(e["val_loss"]) for e in events["eval"]][:a.epochs * CHECKS]
    ends = [time_until(events["step"], min(epoch * CHECKS * every, plan["steps"])) for epoch in range(1, a.epochs + 1)]
    return {"perplexities": [checks[at:at + CHECKS] for at in range(0, len(checks), CHECKS)],
            "seconds": [after - before for before, after in zip([0, *ends], ends)]}


def time_until(reports, step):
    """The seconds that the steps up to one took, without validations, by the last report until then."""
    last = [e for e in reports if e["step"] <= step][-1]
    return last["tokens"] / last["tokens_per_s"] * step / last["step"]


def page(results):
    return "\n".join(["# The AWD-LSTM over words", "", "Written by bench/quality/words.py: held-out perplexity of the averaged weights, and "
                      "the seconds that each epoch's steps take.", "", table(results), ""])


def table(results):
    lines = ["| epoch | Penwright | PyTorch | difference | Penwright, s | PyTorch, s | ratio |", "| ---: |" + " ---: |" * 6]
    sides = [results.get(side, {"perplexities": [], "seconds": []}) for side in ("penwright", "torch")]
    checks = zip_longest(*(sum(side["perplexities"], []) for side in sides))
    epochs = list(zip_longest(*(side["seconds"] for side in sides)))
    for n, levels in enumerate(checks, 1):
        seconds = (None, None) if n % CHECKS else epochs[n // CHECKS - 1]
        difference = f"{100 * (levels[0] / levels[1] - 1):+.1f} %" if all(levels) else ""
        ratio = f"{seconds[1] / seconds[0]:.2f}" if all(seconds) else ""
        cells = [f"{n / CHECKS:g}", *(f"{p:.1f}" if p else "" for p in levels), difference, *(f"{s:.0f}" if s else "" for s in seconds), ratio]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
