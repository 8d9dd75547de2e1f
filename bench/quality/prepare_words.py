"""Texts as the papers on words have them: cut into words, rare words replaced by <unk>, one paragraph or verse a line.

    python prepare_words.py OUT_DIR TEXT... --vocab 10000

Joins the texts, keeps the last tenth of their lines for validation, and writes train.txt and val.txt. The vocabulary is the most
frequent words of the training part, <unk> and the end of a line among its ids.
"""
import argparse
import collections
import pathlib
import re
import sys

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+|[^\w\s]|_")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("texts", nargs="+", type=pathlib.Path)
    p.add_argument("--vocab", type=int, default=10_000)
    a = p.parse_args()
    lines = [WORD.findall(line.lower()) for path in sorted(a.texts) for line in paragraphs(path.read_text(encoding="utf-8"))]
    cut = len(lines) - len(lines) // 10
    counts = collections.Counter(word for line in lines[:cut] for word in line)
    if len(counts) <= a.vocab - 2:
        # Without <unk> to learn from, what a side makes of an unknown word in the held-out part is its own affair.
        sys.exit(f"the texts have only {len(counts)} different words to train on, so that none is replaced by <unk>: take a smaller --vocab")
    known = {word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:a.vocab - 2]}
    a.out.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", lines[:cut]), ("val", lines[cut:])):
        rows = (" ".join(word if word in known else "<unk>" for word in line) for line in part)
        (a.out / f"{name}.txt").write_text("".join(f" {row} \n" for row in rows), encoding="utf-8")
        print(f"{name}: {len(part)} lines, {sum(map(len, part)) + len(part)} tokens")


def paragraphs(text):
    return [block for block in re.split(r"\n\s*\n", text) if WORD.search(block)]


main()
