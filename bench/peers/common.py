"""What the peers' scripts share: each loads once and then measures whenever it is told to.

A script prints {"ready": what it is set to}, then for every line on standard input one JSON line with the seconds of its
repetitions. So that compiling and loading are done once and measurements can alternate with another program's.
"""
import json
import sys
import time


def repeat(work, seconds, least, most=101):
    """Times of `work`, as many as fit into so many seconds; `work` may return a time that it took itself."""
    begun, times = time.perf_counter(), []
    while len(times) < least or time.perf_counter() - begun < seconds and len(times) < most:
        start = time.perf_counter()
        own = work()
        times.append(time.perf_counter() - start if own is None else own)
    return times


def serve(setting, measure):
    """Answers each line "SECONDS LEAST" with the times of measure(seconds, least)."""
    say({"ready": setting})
    for line in sys.stdin:
        seconds, least = line.split()
        say({"times": measure(float(seconds), int(least))})


def say(what):
    print(json.dumps(what), flush=True)
