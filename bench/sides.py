"""The two sides of a row: programs that are started, measured many times, and stopped."""
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


class Problem(Exception):
    """What could not be measured, in a sentence."""


class Place:
    """Where programs and files are, and how long things are measured."""

    def __init__(self, penwright, python, work, threads, quick, lock):
        self.penwright, self.python, self.work = str(penwright), str(python), pathlib.Path(work)
        self.threads, self.quick, self.lock = threads, quick, lock
        self.environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), NO_COLOR="1")

    @contextlib.contextmanager
    def alone(self):
        """Holds the lock file, if one was named, so that others who honour it are quiet."""
        if not self.lock:
            yield
            return
        with open(self.lock, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def run(self, command, **more):
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=self.environment, **more)
        if done.returncode:
            lines = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["it says nothing"]
            raise Problem(f"{pathlib.Path(command[0]).name} failed: {lines[-1]}")
        return done.stdout


class Side:
    """A program at one setting. `measure` returns a value in the row's unit."""

    limit = fraction = None

    def __init__(self, place, setting):
        self.place, self.setting = place, setting

    def start(self):
        pass

    def stop(self):
        pass


class Bench(Side):
    """A figure of `penwright bench`."""

    def __init__(self, place, figure):
        super().__init__(place, figure.rsplit(".", 1)[1])
        self.figure = figure

    def measure(self):
        command = [self.place.penwright, "bench", self.figure, "--json", "--quiet", "--threads", self.place.threads]
        out = self.place.run(command + (["--quick"] if self.place.quick else []))
        figures = [f for f in map(json.loads, out.splitlines()) if f["name"] == self.figure]
        if not figures:
            raise Problem(f"penwright bench measured no {self.figure}")
        self.limit, self.fraction = figures[0]["limit"], figures[0]["fraction"]
        return figures[0]["value"]


class Generate(Side):
    """`penwright generate`, greedily, from the random GPT-2; `key` is the figure of its JSON."""

    def __init__(self, place, precision, key, prompt=32, tokens=128, samples=1):
        super().__init__(place, precision)
        self.key, self.expected = key, tokens * samples
        self.command = [place.penwright, "generate", place.work / "gpt2", "--json", "--quiet", "--greedy", "--tokens", tokens,
                        "--samples", samples, "--prompt", " the" * prompt, "--precision", precision, "--threads", place.threads]

    def measure(self):
        out = json.loads(self.place.run(self.command))
        written = sum(s["tokens"] for s in out["samples"])
        if written != self.expected:
            raise Problem(f"penwright wrote {written} tokens instead of {self.expected}")
        return out[self.key]


class Server(Side):
    """A peer's script (peers/common.py): loaded once, asked many times. `value` makes the row's unit of seconds."""

    def __init__(self, place, setting, script, arguments, value, seconds=3.0, least=5):
        super().__init__(place, setting)
        self.command = [place.python, HERE / "peers" / script, *arguments]
        self.value, self.seconds, self.least = value, *((seconds / 4, 2) if place.quick else (seconds, least))
        self.process = None

    def start(self):
        self.errors = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen([str(c) for c in self.command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=self.place.environment)
        self.setting = self.answer("ready")

    def answer(self, key):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)[key]
        self.errors.seek(0)
        said = [line for line in self.errors.read().splitlines() if line.strip()] or ["it ended without a word"]
        raise Problem(f"{self.command[1].name}: {said[-1].strip()}")

    def measure(self):
        self.process.stdin.write(f"{self.seconds} {self.least}\n")
        self.process.stdin.flush()
        return self.value(statistics.median(self.answer("times")))

    def stop(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()
            self.process = None


class FirstLine(Side):
    """Milliseconds from the start of a process to its first line, the median of some; the first start does not count."""

    def __init__(self, place, setting, command, said=None):
        super().__init__(place, setting)
        self.command, self.said, self.again = [str(c) for c in command], said, 3 if place.quick else 7

    def once(self):
        start = time.perf_counter()
        pipe = subprocess.PIPE
        with subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=self.place.environment) as process:
            process.stdin.write(self.said or "")
            process.stdin.close()
            line = process.stdout.readline()
            taken = 1e3 * (time.perf_counter() - start)
            rest = process.stderr.read()
        if not line:
            raise Problem(f"{pathlib.Path(self.command[0]).name} printed nothing: {rest.strip().splitlines()[-1:]}")
        return taken

    def measure(self):
        self.once()
        return statistics.median(self.once() for _ in range(self.again))


class Memory(Side):
    """Megabytes of a process at its largest, as the system counts its resident pages."""

    def __init__(self, place, setting, command, leaves=None):
        super().__init__(place, setting)
        self.command, self.leaves = [str(c) for c in command], leaves

    def measure(self):
        try:
            return self.largest()
        finally:
            if self.leaves:
                shutil.rmtree(self.leaves, ignore_errors=True)

    def largest(self):
        with tempfile.TemporaryFile(mode="w+") as errors:
            process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=errors, env=self.place.environment)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                errors.seek(0)
                raise Problem(f"{pathlib.Path(self.command[0]).name} failed: {errors.read().strip().splitlines()[-1:]}")
        return used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)
