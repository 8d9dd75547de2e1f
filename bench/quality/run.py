"""What each side makes of a text in a budget of time, held-out bits per character; writes a table.

    python bench/quality/run.py TEXT... --budget 10m --venv .venv-peers

Of each text the last tenth is held out. Sides: penwright's GPT-2, LSTM and n-gram model as `--budget` alone has them, PyTorch's
GPT-2 and LSTM (torch_train.py). What is in the results already is not measured again, so that it may be run in parts; each run
has the machine for itself.
"""
import argparse
import json
import pathlib
import sys
import tempfile

from common import LEFT_OUT, TUNED_ON, Results, call, held_out, split, train
import between
import report

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SIDES = {"penwright gpt2": "Penwright's GPT-2", "penwright lstm": "Penwright's LSTM", "penwright ngram": "n-gram model",
         "torch gpt2": "GPT-2 in PyTorch", "torch lstm": "LSTM in PyTorch"}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("texts", nargs="+", type=pathlib.Path)
    p.add_argument("--budget", default="10m")
    p.add_argument("--sides", nargs="+", choices=[s.replace(" ", "-") for s in SIDES], help="[default: all]")
    p.add_argument("--venv", type=pathlib.Path, default=ROOT / ".venv-peers")
    p.add_argument("--penwright", type=pathlib.Path, default=ROOT / "target/release/penwright")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/results/quality", help="without ending")
    p.add_argument("--again", action="store_true", help="measure again what is there")
    p.add_argument("--readme", action="store_true", help="also writes the budget's table into README.md and docs/recipes.md")
    a = p.parse_args()
    results = Results(a.out)
    for text in a.texts:
        for side in SIDES:
            if a.sides and side.replace(" ", "-") not in a.sides:
                continue
            entry = results.setdefault(a.budget, {}).setdefault(text.stem, {})
            if side in entry and not a.again:
                continue
            with tempfile.TemporaryDirectory() as work:
                entry[side] = measure(side, text, a, pathlib.Path(work)) | {"processor": report.machine()["processor"]}
            print(f"{text.stem}: {side} {entry[side]['bits_per_char']:.4f}", file=sys.stderr, flush=True)
            results.save()
            a.out.with_suffix(".md").write_text(page(results))
    if a.readme:
        for place in (between.README, ROOT / "docs/recipes.md"):
            between.put("quality", table(results[a.budget]), place)
    print(page(results))


def measure(side, text, a, work):
    who, kind = side.split()
    parts = split(text, work)
    if who == "torch":
        command = [a.venv / "bin/python", HERE / "torch_train.py", kind, *parts, "--seconds", seconds(a.budget), "--threads", a.threads]
        return json.loads(call(command).splitlines()[-1])
    length = [] if kind == "ngram" else ["--budget", a.budget]
    done = train(a.penwright, parts, work / "run", "--model", kind, *length, "--threads", a.threads)["done"][-1]
    result = held_out(a.penwright, work / "run", parts[1])
    return {"bits_per_char": result["bits_per_char"], "seconds": done["elapsed_s"], "steps": done["steps"], "params": result["params"],
            "settings": [line for line in (work / "run/penwright.toml").read_text().splitlines()[1:] if not line.startswith(("text =", "val ="))]}


def seconds(budget):
    return float(budget[:-1]) * {"s": 1, "m": 60, "h": 3600}[budget[-1]]


def page(results):
    lines = ["# Held-out bits per character after a budget of time", "", "Written by bench/quality/run.py.", ""]
    for budget, texts in sorted(results.items()):
        lines += [f"## {budget}", "", table(texts), ""]
    return "\n".join(lines)


def table(texts):
    """Texts that no rule was tuned on first; of the sides those that were run."""
    sides = [side for side in SIDES if any(side in entry for entry in texts.values())]
    lines = ["| text | " + " | ".join(SIDES[side] for side in sides) + " | fewer bits than PyTorch's best | processor |",
             "| --- |" + " ---: |" * (len(sides) + 1) + " --- |"]
    for text, entry in sorted(texts.items(), key=lambda item: (item[0] not in LEFT_OUT, item[0])):
        bits = {side: entry[side]["bits_per_char"] for side in sides if side in entry}
        least = min(bits.values())
        ours, theirs = ([b for side, b in bits.items() if side.startswith(who)] for who in ("penwright", "torch"))
        fewer = f"{100 * (1 - min(ours) / min(theirs)):.1f} %" if ours and theirs else ""
        cells = ("" if side not in bits else f"**{bits[side]:.3f}**" if bits[side] == least else f"{bits[side]:.3f}" for side in sides)
        processors = sorted({entry[side].get("processor", "") for side in bits})
        lines.append(f"| {title(text)} | {' | '.join(cells)} | {fewer} | {', '.join(processors)} |")
    return "\n".join(lines)


def title(text):
    words = (word if word in ("of", "and", "in", "the") else word.capitalize() for word in text.split("-"))
    return f"*{' '.join(words)}*" + ("" if text in LEFT_OUT else " (tuned on)" if text in TUNED_ON else "")


main()
