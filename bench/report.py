"""The table: for people in Markdown, with what it was measured on."""
import json
import os
import pathlib
import platform
import subprocess

import between

PACKAGES = ("torch", "transformers", "llama_cpp_python", "ctranslate2")


def machine():
    processor, memory = platform.processor() or platform.machine(), None
    try:
        info = pathlib.Path("/proc/cpuinfo").read_text()
        fields = dict(line.split(":", 1) for line in info.split("\n\n")[0].replace("\t", "").splitlines() if ":" in line)
        family = ", ".join(f"{name} {fields[key].strip()}" for name, key in (("family", "cpu family"), ("model", "model")) if key in fields)
        processor = fields.get("model name", processor).strip() + (f" ({family})" if family else "")
        features = [f for f in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni") if f in fields.get("flags", "").split()]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        features = []
    return {"processor": processor, "features": features, "cores": os.cpu_count(), "memory_bytes": memory,
            "system": f"{platform.system()} {platform.release()}"}


def versions(place):
    code = f"import json, importlib.metadata as m\nout = {{}}\nfor p in {PACKAGES!r}:\n try: out[p] = m.version(p)\n except m.PackageNotFoundError: pass\nprint(json.dumps(out))"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=pathlib.Path(__file__).parent, capture_output=True, text=True)
    ours = place.run([place.penwright, "--version"]).split()[-1] + (f" ({commit.stdout.strip()})" if commit.returncode == 0 else "")
    return {"penwright": ours, "python": platform.python_version(), **json.loads(place.run([place.python, "-c", code]))}


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(result, short=False):
    """The rows; `short` leaves out spreads and the machine's limits."""
    head = ["work", "Penwright", "peer", "ratio", "to reach"] if short else [
        "work", "Penwright", "peer", "ratio", "of single pairs", "to reach", "", "of the machine's limit"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for row in result["rows"]:
        memory, target = row["unit"] == "MB", row["target"]
        reach = "" if target is None else f"{'at most ' if memory else ''}{target:g} ×"
        if row["ratio"] is None:
            cells = [row["work"], "", "", "not measured", reach] if short else [
                row["work"], "", "", "not measured", "", reach, row.get("problem", ""), ""]
        else:
            side = lambda who: f"{number(row[who]['median'])} {row['unit']} ({row[who]['setting']}){spread(row[who]['values'], short)}"
            bold = "**" if row["pass"] else ""
            ratio = f"{bold}{row['ratio']:.2f} ×{bold}"
            verdict = {True: "pass", False: "short", None: ""}[row["pass"]]
            part = row["penwright"].get("fraction")
            cells = [row["work"], side("penwright"), side("peer"), ratio]
            cells += [reach] if short else [f"{min(row['ratios']):.2f} – {max(row['ratios']):.2f}", reach, verdict,
                                            f"{100 * part:.0f} %" if part else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values, short):
    return "" if short else f", {number(min(values))} – {number(max(values))}"


def conditions(result):
    m, v = result["machine"], result["versions"]
    names = {"penwright": "Penwright", "torch": "PyTorch", "llama_cpp_python": "llama-cpp-python", "ctranslate2": "CTranslate2"}
    programs = ", ".join(f"{name} {v[key]}" for key, name in names.items() if key in v)
    return (f"{m['processor']}, {result['threads']} threads of {m['cores']} cores, {' '.join(m['features'])}; {m['system']}; "
            f"{programs}; {result['date']}.")


def page(result):
    limits = [f"| {name} | {number(f['value'])} {f['unit']} |" for name, f in result["limits"].items()]
    tried = []
    for row in result["rows"]:
        for who in ("penwright", "peer"):
            settings = row.get(who, {}).get("tried", {})
            shown = [f"{s} {number(x) if isinstance(x, float) else x}" for s, x in settings.items()]
            if len(shown) > 1:
                tried.append(f"- {row['work']}, {who}: {'; '.join(shown)} {row['unit']}")
    quick = "\n\nMeasured with --quick: too few repetitions to rely on." if result["quick"] else ""
    return "\n".join([
        "# Penwright and its peers", "",
        f"{conditions(result)} Written by bench/run.py; how it measures: docs/benchmarks.md.{quick}", "",
        table(result), "", "The machine's limits (`penwright bench peak`):", "", "| | |", "| --- | ---: |", *limits, "",
        "Settings that were tried once, before the fastest of each side alternated:", "", *tried, "",
    ])


def into_readme(result):
    between.put("speed", f"{table(result, short=True)}\n\n{conditions(result)}")
