"""A GPT-2 of 124 million random weights, in every format that the programs read, made once.

    python make_models.py WORK PENWRIGHT     (in the peers' virtual environment)

Random weights have the speed of trained ones. In WORK: gpt2 (Hugging Face), gpt2-{f32,bf16,f16,q8_0,q4_0}.gguf,
ct2 (CTranslate2, int8). The vocabulary is the published one, as Penwright writes it.
"""
import ctypes
import json
import pathlib
import shutil
import subprocess
import sys

work, penwright = pathlib.Path(sys.argv[1]), sys.argv[2]
folder = work / "gpt2"
root = pathlib.Path(__file__).resolve().parent.parent


def vocabulary():
    """The published vocabulary, from a run of one step."""
    run = work / "vocabulary"
    subprocess.run(
        [penwright, "train", str(root / "assets/novel/01.txt"), "--level", "gpt2", "--layers", "1", "--heads", "1", "--width", "8",
         "--context", "8", "--batch", "1", "--steps", "1", "--quiet", "--out", str(run)], check=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(run / name, folder / name)
    shutil.rmtree(run)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    return model["vocab"], [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]


def checkpoint():
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config())
    model.save_pretrained(folder)
    return {name.removeprefix("transformer."): t.detach().numpy() for name, t in model.state_dict().items()}, model.config


def gguf(tensors, config, vocab, merges):
    import gguf
    import llama_cpp
    import numpy as np

    path = work / "gpt2-f32.gguf"
    w = gguf.GGUFWriter(path, "gpt2")
    w.add_block_count(config.n_layer)
    w.add_context_length(config.n_positions)
    w.add_embedding_length(config.n_embd)
    w.add_feed_forward_length(4 * config.n_embd)
    w.add_head_count(config.n_head)
    w.add_layer_norm_eps(config.layer_norm_epsilon)
    w.add_file_type(0)
    tokens = [None] * config.vocab_size
    for text, index in vocab.items():
        tokens[index] = text.encode()
    tokens[-1] = b"<|endoftext|>"
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL])
    w.add_token_merges(merges)
    w.add_bos_token_id(len(tokens) - 1)
    w.add_eos_token_id(len(tokens) - 1)
    names = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
    parts = {"ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
             "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    for layer in range(config.n_layer):
        names |= {f"h.{layer}.{part}": f"blk.{layer}.{name}" for part, name in parts.items()}
    for source, target in names.items():
        for kind in ("weight", "bias"):
            tensor = tensors.get(f"{source}.{kind}")
            if tensor is not None:
                turned = kind == "weight" and ".c_" in source
                w.add_tensor(f"{target}.{kind}", np.ascontiguousarray(tensor.T if turned else tensor))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    for name, kind in (("f16", 1), ("q8_0", 7), ("q4_0", 2), ("bf16", 32)):
        settings = llama_cpp.llama_model_quantize_default_params()
        settings.ftype, settings.nthread = kind, 2
        to = work / f"gpt2-{name}.gguf"
        assert llama_cpp.llama_model_quantize(str(path).encode(), str(to).encode(), ctypes.byref(settings)) == 0, name


def ctranslate2():
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder)).convert(str(work / "ct2"), quantization="int8", force=True)
    # A tokenizer without an unknown token leaves a null there, which the library does not read back.
    path = work / "ct2/config.json"
    path.write_text(json.dumps({key: value or "<|endoftext|>" if key.endswith("_token") else value
                                for key, value in json.loads(path.read_text()).items()}))


def main():
    vocab, merges = vocabulary()
    tensors, config = checkpoint()
    gguf(tensors, config, vocab, merges)
    try:
        ctranslate2()
    except Exception as error:  # the row says what is missing; the others can be measured
        print(f"CTranslate2 cannot convert the model: {error}", file=sys.stderr)
    (work / "made").touch()


main()
