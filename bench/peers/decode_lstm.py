"""A character LSTM writes one text in PyTorch, token by token, greedily.

    python decode_lstm.py LAYERS HIDDEN VOCAB TOKENS THREADS SETTING

SETTING: f32 or bf16, then eager, cells (nn.LSTMCell), script (torch.jit) or compile (torch.compile), as in "f32-script".
"""
import sys

import torch
from torch import nn

from common import repeat, serve

layers, hidden, vocab, count, threads = map(int, sys.argv[1:6])
precision, way = sys.argv[6].split("-")
torch.set_num_threads(threads)
torch.manual_seed(0)


class Stacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(vocab, hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers)
        self.head = nn.Linear(hidden, vocab)

    def forward(self, token, h, c):
        out, (h, c) = self.lstm(self.embed(token).unsqueeze(0), (h, c))
        return self.head(out[0]).argmax(-1), h, c


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(vocab, hidden)
        self.cells = nn.ModuleList(nn.LSTMCell(hidden, hidden) for _ in range(layers))
        self.head = nn.Linear(hidden, vocab)

    def forward(self, token, h, c):
        x, hs, cs = self.embed(token), [], []
        for i, cell in enumerate(self.cells):
            x, state = cell(x, (h[i], c[i]))
            hs.append(x)
            cs.append(state)
        return self.head(x).argmax(-1), torch.stack(hs), torch.stack(cs)


model = (Cells() if way in ("cells", "compile") else Stacked()).eval()
if precision == "bf16":
    model = model.to(torch.bfloat16)
zeros = torch.zeros(layers, 1, hidden, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
with torch.inference_mode():
    if way == "script":
        model = torch.jit.freeze(torch.jit.script(model))
    elif way == "compile":
        model = torch.compile(model)

    def write():
        token, h, c = torch.zeros(1, dtype=torch.long), zeros, zeros
        for _ in range(count):
            token, h, c = model(token, h, c)
            token.item()

    write()
    write()
    serve("PyTorch " + sys.argv[6], lambda seconds, least: repeat(write, seconds, least))
