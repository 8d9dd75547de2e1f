"""CTranslate2 writes texts side by side, greedily, after prompts of 32 tokens.

    python decode_ctranslate2.py MODEL_DIR int8 16 128 THREADS
"""
import sys
import time

import ctranslate2

from common import repeat, serve

folder, precision = sys.argv[1:3]
streams, count, threads = map(int, sys.argv[3:6])
generator = ctranslate2.Generator(folder, device="cpu", compute_type=precision, intra_threads=threads)
prompt = [["a", "b", "the", "\u0120of"] * 8] * streams
settings = dict(sampling_topk=1, include_prompt_in_result=False, max_batch_size=0)


def write():
    # What one token takes longer than none is left in: the prompt of each text, as one batch.
    first = time.perf_counter()
    generator.generate_batch(prompt, max_length=1, min_length=1, **settings)
    start = time.perf_counter()
    out = generator.generate_batch(prompt, max_length=count + 1, min_length=count + 1, **settings)
    assert all(len(o.sequences_ids[0]) == count + 1 for o in out)
    return time.perf_counter() - start - (start - first)


write()
serve(f"CTranslate2 {precision}", lambda seconds, least: repeat(write, seconds, least))
