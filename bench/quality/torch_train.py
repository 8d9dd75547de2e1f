"""What PyTorch makes of a text in a time: characters, the best validation loss of the run.

    python torch_train.py gpt2 train.txt val.txt --seconds 600
    python torch_train.py lstm train.txt val.txt --seconds 600

gpt2 is the library transformers' GPT-2 with the settings that nanoGPT's README gives for processors (4 layers of 128, context
64, batch 12, no dropout), lstm a plain torch.nn.LSTM of two layers of 512 (batch 16 × context 64, which learns more in the time
than larger ones: docs/recipes.md). AdamW and a cosine over the time, in f32 or bfloat16, whichever takes less time a step. Prints
a line of JSON. Making the model, compiling it, that choice and validating are not in the time; the vocabulary is that of both texts.
"""
import argparse
import json
import math
import time

import torch
from torch import nn

from common import faster_in_bf16

SHAPES = {"gpt2": dict(batch=12, context=64, lr=1e-3, decay=0.1, betas=(0.9, 0.99)),
          "lstm": dict(batch=16, context=64, lr=2e-3, decay=0.01, betas=(0.9, 0.99))}
WARMUP = 100
VALIDATIONS = {"gpt2": 40, "lstm": 10}  # one of the LSTM, which reads the text as one stream, takes seconds


class Lstm(nn.Module):
    def __init__(self, vocab, hidden=512, layers=2):
        super().__init__()
        self.embed = nn.Embedding(vocab, hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, vocab)

    def forward(self, tokens, state=None):
        out, state = self.lstm(self.embed(tokens), state)
        return self.head(out), state


class Gpt2(nn.Module):
    def __init__(self, vocab, context):
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        self.model = GPT2LMHeadModel(GPT2Config(
            n_layer=4, n_head=4, n_embd=128, n_positions=context, vocab_size=vocab, bos_token_id=0, eos_token_id=0,
            resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False))

    def forward(self, tokens, state=None):
        return self.model(tokens).logits, None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", choices=SHAPES)
    p.add_argument("train")
    p.add_argument("val")
    p.add_argument("--seconds", type=float, default=600)
    p.add_argument("--steps", type=int, help="so many instead of the time")
    p.add_argument("--batch", type=int)
    p.add_argument("--context", type=int)
    p.add_argument("--lr", type=float)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    texts = [open(path, encoding="utf-8", newline="").read() for path in (a.train, a.val)]
    ids = {c: i for i, c in enumerate(sorted(set("".join(texts))))}
    train, val = (torch.tensor([ids[c] for c in text]) for text in texts)
    print(json.dumps(run(a, train, val, len(ids))), flush=True)


def run(a, train, val, vocab):
    shape = SHAPES[a.model] | {name: value for name in ("batch", "context", "lr") if (value := getattr(a, name))}
    context, batch = shape["context"], shape["batch"]
    model = Gpt2(vocab, context) if a.model == "gpt2" else Lstm(vocab)
    forward = torch.compile(model) if a.model == "gpt2" else model
    optimizer = torch.optim.AdamW(model.parameters(), 0.0, shape["betas"], weight_decay=shape["decay"], fused=True)
    batches = Streams(train, batch, context) if a.model == "lstm" else Windows(train, batch, context)
    state = None

    def step(rate, bf16):
        nonlocal state
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, y, fresh = batches.next()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits, after = forward(x, None if fresh else state)
            loss = nn.functional.cross_entropy(logits.float().reshape(-1, vocab), y.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state = None if after is None else tuple(s.detach() for s in after)

    def trial(bf16):
        nonlocal state
        state = None
        step(0.0, bf16)

    bf16 = faster_in_bf16(trial)
    optimizer.zero_grad(set_to_none=True)
    optimizer.state.clear()
    batches, state = type(batches)(train, batch, context), None
    each = 1 / VALIDATIONS[a.model]
    taken, steps, best, next_validation = 0.0, 0, math.inf, each
    while True:
        done = steps / a.steps if a.steps else taken / a.seconds
        if done >= next_validation or done >= 1:
            best = min(best, validate(a.model, model, val, vocab, context, bf16))
            next_validation += each
        if done >= 1:
            break
        begun = time.perf_counter()
        rate = shape["lr"] * min(1, (steps + 1) / WARMUP) * (0.1 + 0.45 * (1 + math.cos(math.pi * min(done, 1))))
        step(rate, bf16)
        taken, steps = taken + time.perf_counter() - begun, steps + 1
    return {"model": a.model, "seconds": taken, "steps": steps, "val_loss": best, "bits_per_char": best / math.log(2),
            "params": sum(p.numel() for p in model.parameters()), "precision": "bf16" if bf16 else "f32"}


class Windows:
    """Windows of the text at random."""

    def __init__(self, text, batch, context):
        self.text, self.batch, self.context = text, batch, context

    def next(self):
        starts = torch.randint(len(self.text) - self.context, (self.batch,))
        x = torch.stack([self.text[i:i + self.context] for i in starts])
        y = torch.stack([self.text[i + 1:i + 1 + self.context] for i in starts])
        return x, y, True


class Streams:
    """The text cut into as many streams as a batch has rows, from beginning to end again and again."""

    def __init__(self, text, batch, context):
        each = (len(text) - 1) // batch
        self.x, self.y = (text[i:i + each * batch].view(batch, each) for i in (0, 1))
        self.context, self.at, self.each = context, 0, each

    def next(self):
        fresh = self.at == 0
        part = slice(self.at, min(self.at + self.context, self.each))
        self.at = 0 if part.stop == self.each else part.stop
        return self.x[:, part], self.y[:, part], fresh


@torch.no_grad()
def validate(kind, model, val, vocab, context, bf16):
    """Nats a character: consecutive windows for GPT-2, one stream for the LSTM."""
    model.eval()
    total, state, size = 0.0, None, 1 << 12
    if kind == "gpt2":
        x, y = val[:-1], val[1:]
        whole = len(x) // context * context
        parts = [(x[:whole].view(-1, context), y[:whole].view(-1, context))] + ([(x[whole:][None], y[whole:][None])] if whole < len(x) else [])
    else:
        parts = [(val[i:i + size][None], val[i + 1:i + 1 + size][None]) for i in range(0, len(val) - 1, size)]
        parts = [(x[:, :y.shape[1]], y) for x, y in parts]
    for x, y in parts:
        for x, y in zip(x.split(256), y.split(256)):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits, state = model(x, state)
            total += nn.functional.cross_entropy(logits.float().reshape(-1, vocab), y.reshape(-1), reduction="sum").item()
    model.train()
    return total / (len(val) - 1)


main()
