"""Measures Penwright and its peers in one run, alternating, and writes the table.

    python bench/run.py                                  every row, into bench/results/latest.{md,json}
    python bench/run.py --rows train decode.bf16 --quick
    python bench/run.py --venv .venv-peers --readme      the README's table too

Needs a release build of Penwright (cargo build --release) and a virtual environment with bench/requirements.txt. For each
row every setting of each side is tried once; then the fastest of both alternate, and medians are compared.
"""
import argparse
import datetime
import json
import pathlib
import statistics
import sys
import tempfile

import report
from rows import ROWS
from sides import HERE, Place, Problem

ROOT = HERE.parent


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="names of rows or their beginnings [default: all]")
    p.add_argument("--quick", action="store_true", help="fewer and shorter repetitions: to see whether everything runs")
    p.add_argument("--alternations", type=int, help="measurements of each side [default: 5, with --quick 2]")
    p.add_argument("--threads", type=int, default=2, help="of each side [default: 2]")
    p.add_argument("--venv", type=pathlib.Path, default=ROOT / ".venv-peers", help="the peers' virtual environment")
    p.add_argument("--penwright", type=pathlib.Path, default=ROOT / "target/release/penwright", help="the program")
    p.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir(), "penwright-bench"),
                   help="folder for the random models (1.3 GB, made once) and a training run (2 GB)")
    p.add_argument("--lock", type=pathlib.Path, help="a file whose lock is held while something is measured (flock)")
    p.add_argument("--out", type=pathlib.Path, help="where to, without ending [default: bench/results/latest, or some]")
    p.add_argument("--readme", action="store_true", help="also writes the table into README.md")
    return p.parse_args()


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def main():
    a = arguments()
    rows = [row for row in ROWS if not a.rows or any(row.name.startswith(name) for name in a.rows)]
    if not rows:
        sys.exit(f"no row is named so; there are {', '.join(row.name for row in ROWS)}")
    python = a.venv / "bin/python"
    for path, remedy in ((python, "see bench/requirements.txt"), (a.penwright, "run cargo build --release")):
        if not path.exists():
            sys.exit(f"there is no {path}; {remedy}")
    a.work.mkdir(parents=True, exist_ok=True)
    place = Place(a.penwright.resolve(), python.absolute(), a.work, a.threads, a.quick, a.lock)
    if not (a.work / "made").exists():
        say("making the random models …")
        with place.alone():
            place.run([python.absolute(), HERE / "make_models.py", a.work, place.penwright])
    result = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "threads": a.threads, "quick": a.quick, "machine": report.machine(), "versions": report.versions(place),
        "limits": limits(place), "rows": [],
    }
    # What was measured is written after each row, so that an interrupted run leaves what it has.
    out = a.out or HERE / "results" / ("latest" if rows == ROWS and not a.quick else "some")
    out.parent.mkdir(parents=True, exist_ok=True)
    for row in rows:
        result["rows"].append(measure(row, place, a.alternations or (2 if a.quick else 5)))
        out.with_suffix(".json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        out.with_suffix(".md").write_text(report.page(result))
    if a.readme:
        report.into_readme(result)
    print(report.table(result))


def limits(place):
    with place.alone():
        out = place.run([place.penwright, "bench", "peak", "--json", "--quiet", "--threads", place.threads])
    return {f["name"]: {"value": f["value"], "unit": f["unit"]} for f in map(json.loads, out.splitlines())}


def measure(row, place, alternations):
    say(f"{row.name}: {row.work}")
    entry = {"name": row.name, "work": row.work, "unit": row.unit, "target": row.target, "ratio": None, "pass": None}
    sides = {}
    try:
        for who, candidates in (("penwright", row.ours), ("peer", row.peers)):
            entry[who] = {"tried": {}}
            sides[who] = fastest(row, place, candidates(place), entry[who]["tried"])
            entry[who]["setting"] = sides[who].setting
        values = {who: [] for who in sides}
        for n in range(alternations):
            # Who begins changes, so that neither always follows the other's heat.
            for who in sorted(sides, reverse=n % 2 == 1):
                with place.alone():
                    values[who].append(sides[who].measure())
            say(f"  {n + 1}: " + ", ".join(f"{who} {values[who][n]:.4g} {row.unit}" for who in values))
        for who, side in sides.items():
            entry[who] |= {"median": statistics.median(values[who]), "values": values[who]}
        entry["penwright"] |= {"limit": sides["penwright"].limit, "fraction": sides["penwright"].fraction}
        ours, peer = entry["penwright"]["median"], entry["peer"]["median"]
        entry["ratios"] = [row.ratio(a, b) for a, b in zip(values["penwright"], values["peer"])]
        entry["ratio"] = row.ratio(ours, peer)
        entry["pass"] = row.passes(entry["ratio"])
        say(f"  ratio {entry['ratio']:.2f}" + (f", to reach {row.target}" if row.target else ""))
    except Problem as problem:
        say(f"  not measured: {problem}")
        entry["problem"] = str(problem)
    finally:
        for side in sides.values():
            side.stop()
    return entry


def fastest(row, place, sides, tried):
    """The best of all settings, started. What cannot run is noted and left out."""
    best, problem = None, Problem("there is nothing to measure it with")
    for side in sides:
        try:
            with place.alone():
                side.start()
                value = side.measure()
        except Problem as this:
            tried[side.setting], problem = str(this), this
            side.stop()
            say(f"  {side.setting}: {this}")
            continue
        tried[side.setting] = value
        say(f"  {side.setting}: {value:.4g} {row.unit}")
        if best and (value <= best[0] if row.more_is_better else value >= best[0]):
            side.stop()
            continue
        if best:
            best[1].stop()
        best = value, side
    if not best:
        raise problem
    return best[1]


main()
