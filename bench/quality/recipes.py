"""The experiments behind the rules of `--budget` (docs/recipes.md): trains each line of recipes.txt, writes a table.

    python bench/quality/recipes.py FOLDER_OF_TEXTS... [--only GROUP...]

    python bench/quality/recipes.py FOLDER_OF_TEXTS... --list bench/quality/ablations.txt --out bench/results/ablations --into docs/recipes.md

A line is a group, a text, how much is computed (TFLOP) and the settings as flags, after :: those of eval; @NAME stands for the
settings of bases/NAME.toml. Each run takes as many steps as that computation holds, on one thread, some runs side by side: their
results are the same as alone and on any number of threads. What is in the results already is not trained again. Of each text
the last tenth is held out, as bench/quality/run.py does. The text `joined` is all of the folders' novels one after another, but those
that no rule is to be tuned on; `NAME:20000` is the first 20,000 characters of NAME.
"""
import argparse
import concurrent.futures
import pathlib
import shlex
import sys
import tempfile
import threading

from common import LEFT_OUT, Results, held_out, split, train
from listed import at_a_glance, page, runs_of
import between

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LOCK = threading.Lock()
JOINED = "joined"
NOT_JOINED = LEFT_OUT | {"tinyshakespeare"}  # which is no novel


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("texts", type=pathlib.Path, nargs="*", help="folders with NAME.txt; none with --no-training")
    p.add_argument("--only", nargs="+", metavar="GROUP", help="[default: all]")
    p.add_argument("--list", type=pathlib.Path, default=HERE / "recipes.txt")
    p.add_argument("--penwright", type=pathlib.Path, default=ROOT / "target/release/penwright")
    p.add_argument("--at-once", type=int, default=2, help="runs side by side")
    p.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/results/recipes", help="without ending")
    p.add_argument("--into", type=pathlib.Path, help="a page that gets a table at a glance, in words, between two comments")
    p.add_argument("--no-training", action="store_true", help="only writes again what is there")
    a = p.parse_args()
    if not a.texts and not a.no_training:
        p.error("to train, name the folders of texts")
    results = Results(a.out)
    missing = {}
    for run in runs_of(a.list):
        if run.key not in results and (not a.only or run.group in a.only):
            missing.setdefault(run.training, []).append(run)

    def train_one(runs):
        for run, result in zip(runs, trained(runs, a)):
            with LOCK:
                results[run.key] = result
                results.save()
            print(f"{run.key}: {result['bits_per_char']:.4f}", file=sys.stderr, flush=True)

    if not a.no_training:
        with concurrent.futures.ThreadPoolExecutor(a.at_once) as pool:
            list(pool.map(train_one, missing.values()))
    a.out.with_suffix(".md").write_text(page(results, a.list))
    if a.into:
        between.put(a.list.stem, at_a_glance(results, a.list), a.into)


def found(text, folders, work):
    if text == JOINED:
        files = sorted(file for folder in folders for file in folder.glob("*.txt") if file.stem not in NOT_JOINED)
        whole = work / f"{JOINED}.txt"
        whole.write_text("\n".join(file.read_text(encoding="utf-8") for file in files), encoding="utf-8")
        return whole
    name, _, length = text.partition(":")
    files = [folder / f"{name}.txt" for folder in folders]
    file = next((file for file in files if file.exists()), None) or sys.exit(f"there is no {name}.txt in the folders")
    if not length:
        return file
    beginning = work / f"{name}.txt"
    beginning.write_text(file.read_text(encoding="utf-8")[:int(length)], encoding="utf-8")
    return beginning


def trained(runs, a):
    """The results of runs that differ in the flags of eval alone: one training."""
    flags = runs[0].flags.partition("::")[0]
    flags = ["--threads", 1, "--sample-every", 0, *(f for flag in shlex.split(flags) for f in settings(flag))]
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        parts, out = split(found(runs[0].text, a.texts, work), work), work / "run"
        # One step tells how much a step computes.
        one = train(a.penwright, parts, out, "--steps", 1, *flags)
        plan, tokens = one["plan"][-1], one["done"][-1]["tokens"]
        steps = max(50, int(float(runs[0].tflop) * 1e12 / plan["flops_per_token"] / tokens))
        events = train(a.penwright, parts, out, "--steps", steps, *flags)
        judged = [held_out(a.penwright, out, parts[1], "--threads", 1, *shlex.split(run.flags.partition("::")[2])) for run in runs]
    common = {
        "params": plan["params"],
        "steps": steps,
        "best_step": min(events["eval"], key=lambda event: event["val_loss"])["step"],
        "epochs": steps * tokens / plan["train_tokens"],
        "seconds_one_thread": events["done"][-1]["elapsed_s"],
    }
    return [common | {"bits_per_char": bits["bits_per_char"]} for bits in judged]


def settings(flag):
    """A flag as it is; @NAME as the file of settings of that name."""
    return ["--config", HERE / "bases" / f"{flag[1:]}.toml"] if flag.startswith("@") else [flag]


main()
