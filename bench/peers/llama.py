"""llama.cpp's own server on the same shapes: random weights in Q4_0 with a Q6_K table, as its published LFM2 files have.

The file is written once, beside the model folder. Figures are those that the server itself reports for one request.
"""

import argparse
import json
import urllib.request
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

# Values and bytes of a block, and where its 16-bit scale is.
BLOCKS = {
    gguf.GGMLQuantizationType.Q4_0: (32, 18, 0),
    gguf.GGMLQuantizationType.Q6_K: (256, 210, 208),
}


def random_blocks(draw, rows: int, columns: int, kind) -> np.ndarray:
    """`[rows, bytes]`: random numbers of the kind's range, in blocks whose scale keeps a layer's output near one."""
    values, size, at = BLOCKS[kind]
    blocks = draw.integers(0, 256, (rows, columns // values, size), np.uint8)
    scale = 0.2 / columns**0.5
    if kind is gguf.GGMLQuantizationType.Q6_K:
        # Its sixteen groups have 8-bit scales of their own.
        blocks[..., 192:208] = 4
        scale /= 20
    blocks[..., at : at + 2] = np.array([scale], np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def write(path: Path, shape: dict) -> None:
    draw = np.random.default_rng(7)
    width, feed = shape["hidden_size"], shape["intermediate_size"]
    attends = [kind == "full_attention" for kind in shape["layer_types"]]
    out = gguf.GGUFWriter(path, "lfm2")
    out.add_block_count(len(attends))
    out.add_context_length(shape["max_position_embeddings"])
    out.add_embedding_length(width)
    out.add_feed_forward_length(feed)
    out.add_head_count(shape["num_attention_heads"])
    out.add_head_count_kv([shape["num_key_value_heads"] if attention else 0 for attention in attends])
    out.add_rope_freq_base(shape["rope_theta"])
    out.add_layer_norm_rms_eps(shape["norm_eps"])
    out.add_vocab_size(shape["vocab_size"])
    out.add_shortconv_l_cache(shape["conv_L_cache"])
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("lfm2")
    out.add_token_list([f"t{number}" for number in range(shape["vocab_size"])])
    out.add_token_types([gguf.TokenType.NORMAL] * shape["vocab_size"])
    out.add_token_merges(["t 0"])
    out.add_bos_token_id(shape["bos_token_id"])
    out.add_eos_token_id(shape["eos_token_id"])
    out.add_add_bos_token(False)

    def tensor(name: str, rows: int, columns: int, kind=gguf.GGMLQuantizationType.Q4_0) -> None:
        out.add_tensor(name, random_blocks(draw, rows, columns, kind), raw_dtype=kind)

    def ones(name: str, size: int) -> None:
        out.add_tensor(name, np.ones(size, np.float32))

    tensor("token_embd.weight", shape["vocab_size"], width, gguf.GGMLQuantizationType.Q6_K)
    ones("token_embd_norm.weight", width)
    head = shape["head_dim"]
    for layer, attention in enumerate(attends):
        block = f"blk.{layer}"
        ones(f"{block}.attn_norm.weight", width)
        ones(f"{block}.ffn_norm.weight", width)
        tensor(f"{block}.ffn_gate.weight", feed, width)
        tensor(f"{block}.ffn_up.weight", feed, width)
        tensor(f"{block}.ffn_down.weight", width, feed)
        if attention:
            keys = shape["num_key_value_heads"] * head
            for part, rows in (("q", width), ("k", keys), ("v", keys), ("output", width)):
                tensor(f"{block}.attn_{part}.weight", rows, width)
            ones(f"{block}.attn_q_norm.weight", head)
            ones(f"{block}.attn_k_norm.weight", head)
        else:
            out.add_tensor(f"{block}.shortconv.conv.weight", np.full((width, 3), 0.3, np.float32))
            tensor(f"{block}.shortconv.in_proj.weight", 3 * width, width)
            tensor(f"{block}.shortconv.out_proj.weight", width, width)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def serve(path: Path, threads: int) -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.warmup = 2048, 1, 0, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_threads_http = 1
    params.port = 0
    return xllamacpp.Server(params)


def timings(address: str, prompt: int, answer: int) -> dict:
    question = {
        "prompt": [600 + number % 1000 for number in range(prompt)],
        "n_predict": answer,
        "cache_prompt": False,
        "ignore_eos": True,
        "temperature": 0,
    }
    request = urllib.request.Request(f"{address}/completion", json.dumps(question).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)["timings"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--part", choices=("prefill", "decode"), required=True)
    arguments.add_argument("--amount", type=int, required=True)
    arguments.add_argument("--threads", type=int, required=True)
    given = arguments.parse_args()
    path = given.model.with_name(f"{given.model.name}-q4_0.gguf")
    if not path.exists():
        shape = json.loads((given.model / "config.json").read_text())
        unfinished = path.with_suffix(".part")
        write(unfinished, shape)
        unfinished.rename(path)
    server = serve(path, given.threads)
    timings(server.listening_address, 16, 4)
    if given.part == "prefill":
        found = timings(server.listening_address, given.amount, 1)
        rate = found["prompt_per_second"]
    else:
        found = timings(server.listening_address, 1, given.amount)
        rate = found["predicted_per_second"]
    print(json.dumps({"tok/s": rate, "bytes": path.stat().st_size, "timings": found}))


if __name__ == "__main__":
    main()
