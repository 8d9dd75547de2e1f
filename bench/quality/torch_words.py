"""The AWD-LSTM (Merity, Keskar and Socher 2018) in PyTorch: perplexity after each epoch, on text cut into words.

    python torch_words.py train.txt val.txt --epochs 3 --layers 3 --hidden 1150 --embed 400 --batch 20

Weight-drop, locked dropout, embedding dropout, tied embeddings, activation and temporal activation regularisation, random length
of back-propagation, SGD that is averaged once validation has not improved for five epochs, or exponentially from the start
(--decay). Weights begin as Penwright's do. In f32 or bfloat16, whichever takes less time a step. One line of JSON for each epoch: its
perplexities, checked at equal distances and at its end, and the seconds of its steps alone.
"""
import argparse
import copy
import json
import math
import time

import torch
from torch import nn
from torch.nn import functional as F

from common import faster_in_bf16

PARTS = 16  # of the held-out text


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("train")
    p.add_argument("val")
    for name, default in (("epochs", 3), ("checks", 1), ("layers", 3), ("hidden", 1150), ("embed", 400), ("batch", 20), ("bptt", 70), ("threads", 2),
                          ("seed", 1)):
        p.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("lr", 30.0), ("clip", 0.25), ("weight-decay", 1.2e-6), ("dropout-input", 0.4), ("dropout-hidden", 0.25),
                          ("dropout-output", 0.4), ("dropout-embed", 0.1), ("weight-drop", 0.5), ("alpha", 2.0), ("beta", 1.0)):
        p.add_argument(f"--{name}", type=float, default=default)
    p.add_argument("--decay", type=float, help="of an exponential average of the weights, which is then what is validated")
    p.add_argument("--fixed-length", action="store_true", help="every step the same number of tokens")
    return p.parse_args()


def locked(x, p, training):
    """One mask for all time steps; x is (time, batch, width)."""
    if not training or p == 0:
        return x
    return x * x.new_empty(1, *x.shape[1:]).bernoulli_(1 - p).div_(1 - p)


class Model(nn.Module):
    def __init__(self, a, vocab):
        super().__init__()
        self.a = a
        sizes = [a.embed] + [a.hidden] * (a.layers - 1) + [a.embed]
        self.embed = nn.Embedding(vocab, a.embed)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.layers = nn.ModuleList(nn.LSTM(i, o) for i, o in zip(sizes, sizes[1:]))
        for layer in self.layers:
            nn.init.zeros_(layer.bias_ih_l0)
            nn.init.zeros_(layer.bias_hh_l0)
        self.bias = nn.Parameter(torch.zeros(vocab))

    def forward(self, tokens, states):
        a, weight = self.a, self.embed.weight
        if self.training and a.dropout_embed:
            weight = weight * weight.new_empty(len(weight), 1).bernoulli_(1 - a.dropout_embed).div_(1 - a.dropout_embed)
        x = locked(F.embedding(tokens, weight), a.dropout_input, self.training)
        after = []
        for n, (layer, state) in enumerate(zip(self.layers, states)):
            x, state = self.layer(layer, x, state)
            after.append(state)
            raw = x
            x = locked(x, a.dropout_output if n == a.layers - 1 else a.dropout_hidden, self.training)
        return F.linear(x, self.embed.weight, self.bias), raw, x, after

    def layer(self, layer, x, state):
        if not self.training or not self.a.weight_drop:
            return layer(x, state)
        dropped = F.dropout(layer.weight_hh_l0, self.a.weight_drop)
        return torch.func.functional_call(layer, {"weight_hh_l0": dropped}, (x, state))

    def begin(self, batch):
        return [tuple(torch.zeros(1, batch, layer.hidden_size) for _ in range(2)) for layer in self.layers]


def main():
    a = arguments()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    texts = [read(path) for path in (a.train, a.val)]
    ids = {word: i for i, word in enumerate(sorted(set(texts[0]) | set(texts[1])))}
    train, val = (torch.tensor([ids[word] for word in text]) for text in texts)
    model = Model(a, len(ids))
    averaged, count, ends = [p.detach().clone() for p in model.parameters()] if a.decay else None, 0, []
    x, y = streams(train, a.batch)
    trial = copy.deepcopy(model)
    bf16 = faster_in_bf16(lambda bf16: step(a, trial, x[:a.bptt], y[:a.bptt], trial.begin(a.batch), a.bptt, bf16))
    torch.manual_seed(a.seed)
    for epoch in range(1, a.epochs + 1):
        taken, states, at, losses = 0.0, model.begin(a.batch), 0, []
        while at < len(x):
            begun = time.perf_counter()
            length = a.bptt
            if not a.fixed_length:
                base = float(a.bptt) if torch.rand(()) < 0.95 else a.bptt / 2
                length = max(5, int(torch.normal(torch.tensor(base), 5.0)))
            part = slice(at, min(at + length, len(x)))
            states = step(a, model, x[part], y[part], states, length, bf16)
            at = part.stop
            if averaged is not None:
                count += 1
                share = 1 - min(a.decay, (1 + count) / (10 + count)) if a.decay else 1 / count
                for mean, p in zip(averaged, model.parameters()):
                    mean.lerp_(p.detach(), share)
            taken += time.perf_counter() - begun
            if at * a.checks // len(x) > len(losses):
                losses.append(validate(a, model, val, averaged))
        if averaged is None and len(ends) > 5 and losses[-1] > min(ends[:-5]):
            averaged, count = [p.detach().clone() for p in model.parameters()], 1
        ends.append(losses[-1])
        print(json.dumps({"epoch": epoch, "perplexities": [math.exp(loss) for loss in losses], "seconds": taken,
                          "averaged": averaged is not None, "precision": "bf16" if bf16 else "f32"}), flush=True)


def step(a, model, x, y, states, length, bf16):
    model.train()
    states = [tuple(s.detach() for s in state) for state in states]
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits, raw, dropped, states = model(x, states)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        loss = loss + a.alpha * dropped.float().pow(2).mean()
        if len(raw) > 1:
            loss = loss + a.beta * (raw[1:] - raw[:-1]).float().pow(2).mean()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), a.clip)
    rate = a.lr * len(x) / a.bptt if not a.fixed_length else a.lr
    with torch.no_grad():
        for p in model.parameters():
            p -= rate * (p.grad + a.weight_decay * p)
            p.grad = None
    return states


@torch.no_grad()
def validate(a, model, val, averaged):
    model.eval()
    kept = [p.detach().clone() for p in model.parameters()]
    for p, mean in zip(model.parameters(), averaged or kept):
        p.copy_(mean)
    # Parts side by side, each from an empty state: 0.02 % more than the whole text in one.
    x, y = streams(val, PARTS)
    total, states = 0.0, model.begin(PARTS)
    for inputs, targets in zip(x.split(a.bptt), y.split(a.bptt)):
        logits, _, _, states = model(inputs, states)
        total += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    for p, back in zip(model.parameters(), kept):
        p.copy_(back)
    return total / (len(x) * PARTS)


def read(path):
    """The words of a text and the end of each of its lines."""
    return [word for line in open(path, encoding="utf-8") for word in [*line.split(), "<eos>"]]


def streams(text, batch):
    """(time, batch) inputs and targets."""
    each = (len(text) - 1) // batch
    return tuple(text[i:i + each * batch].view(batch, each).t().contiguous() for i in (0, 1))


main()
