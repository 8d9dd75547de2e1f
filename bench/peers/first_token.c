/* llama.cpp from the start of the process to its first token: opens a model, reads a prompt, prints one token.
 *
 *     cc -O2 first_token.c -I INCLUDE -L LIB -lllama -lggml -lggml-base -o first_token
 *     first_token MODEL.gguf THREADS < prompt.txt
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama.h"

static void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void)level, (void)text, (void)data;
}

int main(int argc, char **argv) {
    static char text[1 << 16];
    llama_token tokens[512];
    if (argc < 3) return 2;
    size_t length = fread(text, 1, sizeof text, stdin);
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return 1;
    struct llama_context_params settings = llama_context_default_params();
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 512;
    settings.n_threads = settings.n_threads_batch = atoi(argv[2]);
    struct llama_context *context = llama_init_from_model(model, settings);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    int count = llama_tokenize(vocab, text, (int)length, tokens, 512, false, false);
    if (!context || count < 1 || llama_decode(context, llama_batch_get_one(tokens, count))) return 1;
    struct llama_sampler *greedy = llama_sampler_init_greedy();
    printf("%d\n", llama_sampler_sample(greedy, context, -1));
    fflush(stdout);
    return 0;
}
