"""A language model that Penwright trained, rebuilt with torch.nn.LSTM.

    pip install torch safetensors tokenizers
    python model.py "The door" --tokens 200

The package `tokenizers` is needed for words and sub-words only. From Python:

    from model import load, load_tokenizer

    model, tokenizer = load(), load_tokenizer()
    ids = [model.end_of_text] + tokenizer.encode("The door")   # every text begins with end-of-text
    logits, state = model.logits(ids)                          # [len(ids), V]: row t is what may follow ids[t]
    logits, state = model.logits(tokenizer.encode(" was"), state)   # goes on from there

model.safetensors is a plain state dict. Where all layers are equally wide, its `lstm.*` are those of one
torch.nn.LSTM; else `lstm.0.*`, `lstm.1.*`, … are those of LSTMs of one layer each.
"""
import argparse
import json
import pathlib

import torch
from safetensors.torch import load_file
from torch import nn

FOLDER = pathlib.Path(__file__).resolve().parent


class Model(nn.Module):
    """Embedding, LSTM, output layer. B texts of T tokens; V ids, embeddings of size E, hidden states of size H."""

    def __init__(self, config):
        super().__init__()
        vocab, embed, hidden = config["vocab_size"], config["embedding_size"], config["hidden_size"]
        layers, tied = config["num_layers"], config["tie_word_embeddings"]
        self.end_of_text, self.never = config["eos_token_id"], config["suppress_tokens"]
        self.embedding = nn.Embedding(vocab, embed)
        # A tied output layer is the embedding, so the last layer is as wide as that.
        widths = [hidden] * (layers - 1) + [embed if tied else hidden]
        if len(set(widths)) == 1 and widths[0] == hidden:
            self.lstm = nn.LSTM(embed, hidden, layers, batch_first=True)
        else:
            pairs = zip([embed] + widths, widths)
            self.lstm = nn.ModuleList(nn.LSTM(inputs, width, batch_first=True) for inputs, width in pairs)
        self.head = nn.Linear(widths[-1], vocab)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, ids, state=None):
        """Logits [B, T, V] of ids [B, T], and the state after them: a list, one entry for each nn.LSTM."""
        stack = self.lstm if isinstance(self.lstm, nn.ModuleList) else [self.lstm]
        x, after = self.embedding(ids), []
        for lstm, before in zip(stack, state or [None] * len(stack)):
            x, (hidden, cell) = lstm(x, before)
            after.append((hidden, cell))
        return self.head(x), after

    @torch.no_grad()
    def logits(self, ids, state=None):
        """Logits [T, V] of one text, a list of T ids that goes on from `state`; and the state after it."""
        logits, state = self(torch.tensor([ids], device=self.head.bias.device), state)
        return logits[0], state

    def generate(self, ids, tokens):
        """The likeliest ids after `ids`, one by one, until the text ends or there are `tokens` of them."""
        written, state, new = [], None, ids
        for _ in range(tokens):
            logits, state = self.logits(new, state)
            logits[-1, self.never] = -torch.inf
            new = [int(logits[-1].argmax())]
            if new == [self.end_of_text]:
                break
            written += new
        return written


class Characters:
    """One id for each character. An unseen one is its UTF-8 bytes, each an escape and two hexadecimal digits, for
    which the first sixteen characters of the vocabulary stand."""

    ESCAPE, DIGITS = 1, 2

    def __init__(self, vocab):
        self.ids = {character: id for character, id in vocab.items() if id >= self.DIGITS}
        self.characters = {id: character for character, id in self.ids.items()}

    def encode(self, text):
        ids = []
        for character in text:
            if character in self.ids:
                ids.append(self.ids[character])
                continue
            for byte in character.encode("utf-8", "replace"):
                ids += [self.ESCAPE, self.DIGITS + byte // 16, self.DIGITS + byte % 16]
        return ids

    def decode(self, ids):
        return "".join(self.characters.get(id, "") for id in ids)


class Pieces:
    """Words or sub-words, by the package `tokenizers`."""

    def __init__(self, path):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(path))

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids)


def load(folder=FOLDER):
    """The model in a folder."""
    model = Model(json.loads((folder / "config.json").read_text("utf-8")))
    weights = load_file(folder / "model.safetensors")
    weights.setdefault("head.weight", weights["embedding.weight"])  # stored once where the two are tied
    model.load_state_dict(weights)
    return model.eval()


def load_tokenizer(folder=FOLDER):
    """The tokenizer in a folder."""
    path = folder / "tokenizer.json"
    description = json.loads(path.read_text("utf-8"))["model"]
    return Characters(description["vocab"]) if description.get("unk_token") == "<|escape|>" else Pieces(path)


def main():
    parser = argparse.ArgumentParser(description="Goes on with a text, always with the likeliest token.")
    parser.add_argument("prompt")
    parser.add_argument("--tokens", type=int, default=200, help="tokens at most (default: 200)")
    arguments = parser.parse_args()
    model, tokenizer = load(), load_tokenizer()
    written = model.generate([model.end_of_text] + tokenizer.encode(arguments.prompt), arguments.tokens)
    print(arguments.prompt + tokenizer.decode(written))


if __name__ == "__main__":
    main()
