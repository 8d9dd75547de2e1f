"""A list of experiments, and the tables of what came out."""
import re
from typing import NamedTuple


class Run(NamedTuple):
    """A line of a list: group, text, how much is computed (TFLOP), settings as flags, after # what it is in words."""
    group: str
    text: str
    tflop: str
    flags: str
    words: str

    @property
    def key(self):
        return f"{self.text} {self.tflop} {self.flags}"

    @property
    def training(self):
        """What runs have in common that differ in the flags of eval alone."""
        return self.key.partition(" ::")[0]


def runs_of(path):
    lines = (line.partition("#") for line in path.read_text().splitlines() if line.strip() and not line.startswith("#"))
    return [Run(*settings.strip().split(None, 3), words.strip()) for settings, _, words in lines]


def groups_of(path, results):
    """The runs that have results, by group, in the order of the list."""
    groups = {}
    for run in runs_of(path):
        if run.key in results:
            groups.setdefault(run.group, []).append(run)
    return groups


def base_of(runs, results):
    """What the others of a group are compared with whose first line is @NAME alone."""
    return results[runs[0].key]["bits_per_char"] if re.fullmatch(r"@\S+", runs[0].flags) else None


def change(run, results, base):
    return f"{100 * (results[run.key]['bits_per_char'] / base - 1):+.1f} %"


def page(results, path):
    lines = [f"# Runs of {path.name}", "", "Written by bench/quality/recipes.py; docs/recipes.md says what follows from them.", ""]
    for group, runs in groups_of(path, results).items():
        base = base_of(runs, results)
        more = (" change |", " ---: |") if base else ("", "")
        lines += ["", f"## {group}", "", "| text | TFLOP | settings | parameters | passes | best at | bits per character |" + more[0],
                  "| --- | ---: | --- | ---: | ---: | ---: | ---: |" + more[1]]
        for run in runs:
            r = results[run.key]
            best = f"{100 * r['best_step'] / r['steps']:.0f} %"
            cells = [run.text, run.tflop, f"`{run.flags}`", f"{r['params']:,}", f"{r['epochs']:.3g}", best, f"{r['bits_per_char']:.4f}"]
            lines.append("| " + " | ".join(cells + ([change(run, results, base)] if base else [])) + " |")
    return "\n".join(lines) + "\n"


def at_a_glance(results, path):
    """Of groups that each begin with a base: what each change, in words, does to the bits per character."""
    groups = groups_of(path, results)
    rows = {}
    for group, runs in groups.items():
        base = base_of(runs, results)
        for n, run in enumerate(runs):
            rows.setdefault(run.words, {})[group] = change(run, results, base) if n else f"{base:.4f}"
    lines = [f"| bits per character | {' | '.join(groups)} |", "| --- |" + " ---: |" * len(groups)]
    lines += [f"| {words} | {' | '.join(cells.get(group, '') for group in groups)} |" for words, cells in rows.items()]
    return "\n".join(lines)
