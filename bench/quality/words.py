"""The AWD-LSTM over words, here and in PyTorch: perplexity after each epoch and what an epoch takes; writes a table.

    python bench/quality/words.py TEXT... --venv .venv-peers

The texts are joined and cut into words (prepare_words.py, 10,000 of them, the last tenth held out). Both sides have the settings of
Merity, Keskar and Socher (2018). A side that is in the results already is not run again. --at-once runs both at the same time, with
the same threads each: what else the machine does then slows both alike.
"""
import argparse
import concurrent.futures
import json
import math
import pathlib
import sys
import tempfile

from common import Results, call, train

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
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
    a = p.parse_args()
    results = Results(a.out)
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        print(call([sys.executable, HERE / "prepare_words.py", work, *a.texts]), end="", file=sys.stderr)
        missing = [side for side in a.sides if side not in results]
        with concurrent.futures.ThreadPoolExecutor(2 if a.at_once else 1) as pool:
            runs = {pool.submit(penwright if side == "penwright" else torch, a, work): side for side in missing}
            for run in concurrent.futures.as_completed(runs):
                results[runs[run]] = run.result()
                results.save()
    a.out.with_suffix(".md").write_text(page(results))
    print(page(results))


def torch(a, work):
    epochs = call([a.venv / "bin/python", HERE / "torch_words.py", work / "train.txt", work / "val.txt", *SHAPE, "--threads", a.threads,
                   "--epochs", a.epochs])
    epochs = [json.loads(line) for line in epochs.splitlines()]
    return {"precision": epochs[0]["precision"], "perplexity": [e["perplexity"] for e in epochs], "seconds": [e["seconds"] for e in epochs]}


def penwright(a, work):
    parts = [work / "train.txt", work / "val.txt"]
    flags = [*SHAPE, *AWD, "--threads", a.threads, "--epochs", a.epochs]
    plan = json.loads(call([a.penwright, "train", parts[0], "--val", parts[1], *flags, "--dry-run", "--json"]))
    events = train(a.penwright, parts, work / "run", *flags, "--eval-every", plan["steps"] // a.epochs, "--sample-every", 0)
    checks = events["eval"][:a.epochs]
    trained = [time_until(events["step"], e["step"]) for e in checks]
    return {"perplexity": [math.exp(e["val_loss"]) for e in checks],
            "seconds": [after - before for before, after in zip([0, *trained], trained)]}


def time_until(reports, step):
    """The seconds that the steps up to one took, without validations, by the last report until then."""
    last = [e for e in reports if e["step"] <= step][-1]
    return last["tokens"] / last["tokens_per_s"] * step / last["step"]


def page(results):
    lines = ["# The AWD-LSTM over words", "", "Written by bench/quality/words.py: held-out perplexity and training time of each epoch.", "",
             "| epoch | Penwright | PyTorch | difference | Penwright, s | PyTorch, s | ratio |", "| ---: |" + " ---: |" * 6]
    ours, theirs = (results.get(side, {"perplexity": [], "seconds": []}) for side in ("penwright", "torch"))
    for n in range(max(len(ours["perplexity"]), len(theirs["perplexity"]))):
        row = [side[key][n] if n < len(side[key]) else None for key in ("perplexity", "seconds") for side in (ours, theirs)]
        both = None not in row
        cells = [f"{x:.1f}" if x else "" for x in row]
        difference, ratio = (f"{100 * (row[0] / row[1] - 1):+.1f} %", f"{row[3] / row[2]:.2f}") if both else ("", "")
        lines.append(f"| {n + 1} | {cells[0]} | {cells[1]} | {difference} | {cells[2]} | {cells[3]} | {ratio} |")
    return "\n".join(lines) + "\n"


main()
