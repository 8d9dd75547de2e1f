"""llama.cpp writes greedily after a prompt of 32 tokens, or reads a prompt of 400, through its C functions.

    python decode_llama.py gpt2-bf16.gguf write 128 THREADS
    python decode_llama.py gpt2-bf16.gguf read 400 THREADS

Times of `write` are of that many tokens after the first; each is chosen by llama.cpp's own greedy sampler. The time of
the Python between is under 1 % (one call a token).
"""
import ctypes
import sys
import time

import llama_cpp as ll

from common import repeat, serve

PROMPT = 32


def main():
    path, task, count, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    quiet = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(quiet, ctypes.c_void_p())
    ll.llama_backend_init()
    model = ll.llama_model_load_from_file(path.encode(), ll.llama_model_default_params())
    settings = ll.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 512
    settings.n_threads = settings.n_threads_batch = threads
    context = ll.llama_init_from_model(model, settings)
    sampler = ll.llama_sampler_chain_init(ll.llama_sampler_chain_default_params())
    ll.llama_sampler_chain_add(sampler, ll.llama_sampler_init_greedy())
    length = count if task == "read" else PROMPT
    begin = (ctypes.c_int32 * length)(*range(100, 100 + length))
    one = (ctypes.c_int32 * 1)()

    def decode(tokens):
        assert ll.llama_decode(context, ll.llama_batch_get_one(tokens, len(tokens))) == 0

    def read():
        ll.llama_memory_clear(ll.llama_get_memory(context), True)
        start = time.perf_counter()
        decode(begin)
        ll.llama_sampler_sample(sampler, context, -1)
        return time.perf_counter() - start

    def write():
        read()
        one[0] = ll.llama_sampler_sample(sampler, context, -1)
        start = time.perf_counter()
        for _ in range(count):
            decode(one)
            one[0] = ll.llama_sampler_sample(sampler, context, -1)
        return time.perf_counter() - start

    work = read if task == "read" else write
    work()
    serve(f"llama.cpp {path.rsplit('-', 1)[1].removesuffix('.gguf')}", lambda seconds, least: repeat(work, seconds, least))


main()
