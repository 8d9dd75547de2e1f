"""One step of the AWD-LSTM, here and in PyTorch, with the same masks: how far the gradients of the two are apart.

    .venv-peers/bin/python bench/quality/torch_step.py TEXT... --steps 150

Trains twice with the settings of words.py, to a step and to the one after it. The difference of the weights, over the learning rate,
is the gradient of that step; PyTorch's is computed from the first run's weights and carried state, over the same window and with the
same masks, which are functions of seed, step and place (crates/penwright/src/layers/dropout.rs, train/lengths.rs).
"""
import argparse
import json
import math
import pathlib
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from common import call
from words import AWD, HERE, ROOT, SHAPE


def setting(name):
    """What the flags of words.py say of a setting."""
    flags = [*SHAPE, *AWD]
    return flags[flags.index(f"--{name}") + 1]


BATCH, CONTEXT, LR = (setting(name) for name in ("batch", "context", "lr"))
WIDTHS = [setting("embed"), *[setting("width")] * (setting("layers") - 1), setting("embed")]
LAYERS = list(zip(WIDTHS, WIDTHS[1:]))
SEED, CLIP, DECAY = 0, 0.25, 1.2e-6  # the last two are the defaults of SGD
INPUT, EMBEDDING, WEIGHTS = 1 << 32, (1 << 32) + 1, 2 << 32


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("texts", nargs="+", type=pathlib.Path)
    p.add_argument("--steps", type=int, default=150, help="before the one that is compared")
    p.add_argument("--penwright", type=pathlib.Path, default=ROOT / "target/release/penwright")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        call([sys.executable, HERE / "prepare_words.py", work, *a.texts])
        runs = [work / "before", work / "after"]
        for n, run in enumerate(runs):
            call([a.penwright, "train", work / "train.txt", "--val", work / "val.txt", *SHAPE, *AWD, "--steps", a.steps + n, "--precision", "f32",
                  "--eval-every", a.steps + n, "--sample-every", 0, "--seed", SEED, "--quiet", "--out", run])
        before, after = (load_file(run / "model.safetensors") for run in runs)
        tokens = read(work / "train.txt", json.loads((runs[0] / "tokenizer.json").read_text())["model"]["vocab"])
        x, y, begun = window(tokens, a.steps)
        carried = load_file(runs[0] / "state/checkpoint.safetensors")["carried"]
    weights = {name: w.clone().requires_grad_() for name, w in before.items()}
    loss, objective = forward(weights, x, y, states(carried, begun), Masks(a.steps))
    objective.backward()
    norm = math.sqrt(sum(w.grad.double().square().sum().item() for w in weights.values()))
    rate = LR * len(x) / CONTEXT * min(1, CLIP / norm)
    print(f"step {a.steps}: {len(x)} tokens of {BATCH} streams, loss {loss.item():.4f}, norm of the gradient {norm:.4f}")
    for name, w in weights.items():
        keep = 1 - LR * len(x) / CONTEXT * DECAY if w.dim() > 1 else 1
        ours = (keep * before[name].double() - after[name].double()) / rate
        print(f"{name:24} apart by {((ours - w.grad).norm() / w.grad.norm()).item():.1e} of its norm")


def forward(weights, x, y, states, masks):
    embedding = weights["embedding.weight"]
    h = F.embedding(x, embedding * masks(EMBEDDING, setting("dropout-embed"), len(embedding), 1))
    h = h * masks(INPUT, setting("dropout-input"), 1, BATCH, WIDTHS[0])
    for n, (inputs, outputs) in enumerate(LAYERS):
        layer = {f"{name}_l0": weights[f"lstm.{name}_l{n}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        layer["weight_hh_l0"] = layer["weight_hh_l0"] * masks(WEIGHTS + n, setting("weight-drop"), 4 * outputs, outputs)
        raw, _ = torch.func.functional_call(nn.LSTM(inputs, outputs), layer, (h, states[n]))
        h = raw * masks(n, setting("dropout-output" if n + 1 == len(LAYERS) else "dropout-hidden"), 1, BATCH, outputs)
    loss = F.cross_entropy(F.linear(h, embedding, weights["head.bias"]).flatten(0, 1), y.flatten())
    return loss, loss + setting("ar") * h.square().mean() + setting("tar") * (raw[1:] - raw[:-1]).square().mean()


class Masks:
    """The masks of a step, by place, rate and shape."""

    def __init__(self, step):
        self.key = random(SEED ^ 0xD50F, step)

    def __call__(self, place, rate, *shape):
        numbers = random(random(self.key, place), np.arange(math.prod(shape), dtype=np.uint64)) >> np.uint64(40)
        kept = numbers.astype(np.float32) / np.float32(1 << 24) >= np.float32(rate)
        return torch.from_numpy(kept.reshape(shape) * np.float32(1 / (1 - rate)))


def random(key, n):
    """Number n of a key: splitmix64."""
    with np.errstate(over="ignore"):
        z = np.uint64(key) + (np.asarray(n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def window(tokens, step):
    """Inputs and targets (time, batch) of a step, and which streams begin in it: streams begin spread over a pass."""
    stream = (len(tokens) - 1) // BATCH
    fits = lambda at, n: at if at + length(n) <= stream else 0
    places, begun = [fits(b * stream // BATCH, 0) for b in range(BATCH)], [True] * BATCH
    for n in range(step):
        ends = [at + length(n) for at in places]
        places = [fits(end, n + 1) for end in ends]
        begun = [at != end for at, end in zip(places, ends)]
    starts = [b * stream + at for b, at in enumerate(places)]
    x = [[tokens[0] if begins else tokens[at], *tokens[at + 1:at + length(step)]] for at, begins in zip(starts, begun)]
    y = [tokens[at + 1:at + length(step) + 1] for at in starts]
    return torch.tensor(x).t(), torch.tensor(y).t(), begun


def length(step):
    key = random(SEED ^ 0x1E46, step)
    uniform = [float(random(key, n) >> np.uint64(11)) / 2**53 for n in range(3)]
    base = CONTEXT * (0.5 if uniform[0] < 0.05 else 1)
    normal = math.sqrt(-2 * math.log(1 - uniform[1])) * math.cos(math.tau * uniform[2])
    return min(max(math.floor(base + 5 * normal + 0.5), 5), CONTEXT + 20)


def states(carried, begun):
    """Hidden and cell state (1, batch, width) of each layer; nothing where a stream begins."""
    parts = carried.split([BATCH * outputs for _, outputs in LAYERS] * 2)
    parts = [part.view(1, BATCH, -1) * (1 - torch.tensor(begun).float())[None, :, None] for part in parts]
    return list(zip(parts[:len(LAYERS)], parts[len(LAYERS):]))


def read(path, vocab):
    """Penwright's tokens: the text's end as its beginning, then words with the space before them, and line ends."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(others)}
    word = lambda text: vocab["".join(letters[b] for b in text.encode())]
    return [0, *(id for line in open(path, encoding="utf-8") for id in [*(word(" " + w) for w in line.split()), word("\n")])]


if __name__ == "__main__":
    main()
