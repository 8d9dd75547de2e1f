"""What is measured: the work, the figure to reach, and the two sides with all settings that may be the fastest."""
import dataclasses
import functools
import pathlib
import shutil
import subprocess
import typing

from sides import HERE, Bench, FirstLine, Generate, Memory, Problem, Server

ROOT = HERE.parent


@dataclasses.dataclass
class Row:
    name: str
    work: str
    unit: str
    # The ratio to reach; None for a row that is shown only.
    target: float | None
    ours: typing.Callable  # place -> sides
    peers: typing.Callable  # place -> sides

    @property
    def more_is_better(self):
        return self.unit.endswith("/s")

    def ratio(self, ours, peer):
        """How many times as fast; of memory what part of the peer's."""
        if self.unit == "MB":
            return ours / peer
        return ours / peer if self.more_is_better else peer / ours

    def passes(self, ratio):
        return None if self.target is None else ratio <= self.target if self.unit == "MB" else ratio >= self.target


@functools.cache
def figures(penwright):
    """The names of all that `penwright bench` measures."""
    return subprocess.run([penwright, "bench", "--list"], capture_output=True, text=True, check=True).stdout.split()


def benches(place, prefix):
    return [Bench(place, name) for name in figures(place.penwright) if name.rpartition(".")[0] == prefix]


def training(shape, work, target, kind, batch, context, **sizes):
    arguments = [kind, "--batch", batch, "--context", context]
    for name, value in sizes.items():
        arguments += [f"--{name}", value]

    def peers(place):
        # torch.compile falls back to the same kernels for an LSTM.
        ways = [[], ["--compile"]] if kind == "gpt2" else [[]]
        return [
            Server(place, " ".join(["bf16"] * bool(bf16) + way), "train_step.py",
                   [*arguments, "--threads", place.threads, *bf16, *way], lambda s: 1e3 * s, least=3)
            for way in ways for bf16 in ([], ["--bf16"])
        ]

    ours = lambda place: benches(place, f"train.{shape}")
    return Row(f"train.{shape}", work, "ms", target, ours, peers)


LLAMA = {"f32": "f32", "bf16": "bf16", "int8": "q8_0", "int4": "q4_0"}
NEW = 128


def llama(place, kind, task, count):
    model = place.work / f"gpt2-{kind}.gguf"
    per_second = lambda seconds: count / seconds
    return Server(place, kind, "decode_llama.py", [model, task, count, place.threads], per_second, seconds=2.0, least=3)


def decoding(precision, target):
    peer = LLAMA[precision]
    return Row(
        f"decode.{precision}", f"GPT-2 124M, one text, greedy, {precision}", "tokens/s", target,
        lambda place: [Generate(place, precision, "decode_tokens_per_s")],
        lambda place: [llama(place, peer, "write", NEW)],
    )


def streams():
    def peers(place):
        if not (place.work / "ct2").exists():
            raise Problem("CTranslate2 could not convert the model; its reason was shown when the models were made")
        # int8 weights, the rest in the type that the library prefers or in f32.
        return [Server(place, kind, "decode_ctranslate2.py", [place.work / "ct2", kind, 16, NEW, place.threads],
                       lambda s: 16 * NEW / s, least=3) for kind in ("int8", "int8_float32")]

    ours = lambda place: [Generate(place, p, "decode_tokens_per_s", samples=16) for p in ("int8", "int4", "bf16", "f32")]
    return Row("decode.16-streams", "GPT-2 124M, 16 texts side by side", "tokens/s", 3.0, ours, peers)


def prompt():
    return Row(
        "decode.prompt-400", "GPT-2 124M, reading a prompt of 400 tokens", "tokens/s", 1.8,
        lambda place: [Generate(place, p, "prefill_tokens_per_s", prompt=400, tokens=1) for p in ("bf16", "int8", "int4", "f32")],
        lambda place: [llama(place, kind, "read", 400) for kind in ("f32", "bf16", "f16", "q8_0", "q4_0")],
    )


def character_lstm():
    layers, hidden, vocab, count = 2, 512, 65, 512

    def peers(place):
        return [
            Server(place, f"{precision}-{way}", "decode_lstm.py",
                   [layers, hidden, vocab, count, place.threads, f"{precision}-{way}"], lambda s: count / s, seconds=2.0)
            for precision in ("f32", "bf16") for way in ("eager", "cells", "script", "compile")
        ]

    ours = lambda place: benches(place, "decode.lstm-2x512")
    return Row("decode.lstm-2x512", "character LSTM 2 × 512, one text", "tokens/s", 10.0, ours, peers)


def start():
    text = " the" * 32

    def ours(place):
        command = [place.penwright, "generate", place.work / "gpt2", "--json", "--quiet", "--greedy", "--tokens", 1, "--prompt", text,
                   "--threads", place.threads]
        return [FirstLine(place, p, [*command, "--precision", p]) for p in ("auto", "f32", "bf16")]

    def peers(place):
        program = first_token(place)
        return [FirstLine(place, kind, [program, place.work / f"gpt2-{kind}.gguf", place.threads], text)
                for kind in ("f32", "bf16", "q8_0", "q4_0")]

    return Row("start", "GPT-2 124M, start of the program to the first token", "ms", 1.0, ours, peers)


def first_token(place):
    """llama.cpp's side in C, compiled against the library that the Python package brings."""
    compiler = shutil.which("cc")
    if not compiler:
        raise Problem("there is no C compiler (cc) for llama.cpp's side")
    where = place.run([place.python, "-c", "import llama_cpp; print(llama_cpp.__path__[0])"]).strip()
    lib, program = pathlib.Path(where, "lib"), place.work / "first_token"
    place.run([compiler, "-O2", HERE / "peers/first_token.c", "-I", pathlib.Path(where).parent / "include", "-L", lib,
               f"-Wl,-rpath,{lib}", "-lllama", "-lggml", "-lggml-base", "-o", program])
    return program


def memory():
    shape = ["--layers", 12, "--heads", 12, "--width", 768, "--batch", 4, "--context", 64]

    def ours(place):
        out = place.work / "memory-run"
        command = [place.penwright, "train", ROOT / "assets/novel", "--level", "gpt2", *shape, "--steps", 3, "--val-fraction", 0.01,
                   "--quiet", "--threads", place.threads, "--out", out]
        return [Memory(place, p, [*command, "--precision", p], leaves=out) for p in ("f32", "bf16")]

    def peers(place):
        command = [place.python, HERE / "peers/train_step.py", "gpt2", *shape, "--steps", 3, "--threads", place.threads]
        return [Memory(place, "f32, eager", command), Memory(place, "bf16, eager", [*command, "--bf16"])]

    return Row("memory", "peak memory, GPT-2 124M training step, batch 4 × context 64", "MB", 0.5, ours, peers)


gpt2, lstm = functools.partial(training, kind="gpt2"), functools.partial(training, kind="lstm")
ROWS = [
    gpt2("gpt2-124m-4x64", "GPT-2 124M training step, batch 4 × context 64", 2.5, batch=4, context=64),
    gpt2("gpt2-124m-4x256", "the same, batch 4 × context 256", 2.2, batch=4, context=256),
    gpt2("gpt2-4x128-12x64", "GPT 4 layers, width 128, batch 12 × context 64, vocabulary 65", 3.5, batch=12, context=64,
         layers=4, heads=4, width=128, vocab=65),
    gpt2("gpt2-6x384-64x256", "GPT 6 layers, width 384, batch 64 × context 256, vocabulary 65", 2.1, batch=64, context=256,
         layers=6, heads=6, width=384, vocab=65),
    lstm("lstm-2x512-64x128", "LSTM 2 × 512, embedding 512, batch 64 × context 128, vocabulary 65", 1.6, batch=64, context=128,
         layers=2, hidden=512, embed=512, vocab=65),
    lstm("lstm-3x1150-20x70", "LSTM 3 × 1150, embedding 400, batch 20 × context 70, vocabulary 10,000", 2.8, batch=20, context=70,
         layers=3, hidden=1150, embed=400, vocab=10_000),
    decoding("f32", None),
    decoding("bf16", 1.1),
    decoding("int8", 1.4),
    decoding("int4", 1.5),
    streams(),
    prompt(),
    character_lstm(),
    start(),
    memory(),
]
