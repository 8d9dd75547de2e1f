"""A training step of PyTorch: forward, loss, backward, clipping to norm 1, AdamW (fused). No dropout.

    python train_step.py gpt2 --layers 12 --heads 12 --width 768 --vocab 50257 --batch 4 --context 64 --bf16 --compile
    python train_step.py lstm --layers 2 --hidden 512 --embed 512 --vocab 65 --batch 64 --context 128 --bf16

bf16 is autocast over f32 weights, as PyTorch trains on processors. With --steps it takes so many and ends, for a
measurement of memory.
"""
import argparse
import contextlib

import torch
from torch import nn

from common import repeat, say, serve


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("model", choices=["gpt2", "lstm"])
    for name, default in (("layers", 12), ("heads", 12), ("width", 768), ("hidden", 512), ("embed", 512), ("vocab", 50257)):
        p.add_argument(f"--{name}", type=int, default=default)
    p.add_argument("--batch", type=int, required=True)
    p.add_argument("--context", type=int, required=True)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--bf16", action="store_true")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--steps", type=int)
    return p.parse_args()


class Lstm(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.embed = nn.Embedding(a.vocab, a.embed)
        self.lstm = nn.LSTM(a.embed, a.hidden, a.layers, batch_first=True)
        self.head = nn.Linear(a.hidden, a.vocab)

    def forward(self, tokens):
        return self.head(self.lstm(self.embed(tokens))[0])


def build(a):
    torch.manual_seed(0)
    if a.model == "lstm":
        return Lstm(a)
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(
        n_layer=a.layers, n_head=a.heads, n_embd=a.width, n_positions=a.context, vocab_size=a.vocab, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False,
    ))


class Training:
    def __init__(self, a):
        self.a, self.model = a, build(a)
        self.forward = torch.compile(self.model) if a.compile else self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4, weight_decay=0.1, fused=True)
        self.x = torch.randint(0, a.vocab, (a.batch, a.context))
        self.y = torch.randint(0, a.vocab, (a.batch, a.context))

    def step(self):
        with torch.autocast("cpu", torch.bfloat16) if self.a.bf16 else contextlib.nullcontext():
            out = self.forward(self.x)
            logits = out if self.a.model == "lstm" else out.logits
            loss = nn.functional.cross_entropy(logits.reshape(-1, self.a.vocab), self.y.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    training = Training(a)
    for _ in range(a.steps or 3):
        training.step()
    setting = "PyTorch " + ("bf16" if a.bf16 else "f32") + (", compiled" if a.compile else ", eager")
    if a.steps:
        return say({"ready": setting})
    serve(setting, lambda seconds, least: repeat(training.step, seconds, least))


main()
