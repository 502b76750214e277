"""llama.cpp's own server with a tiny random LFM2 model: `llama.py FOLDER`, ends when its standard input does.

Prints its address, then the model's name. The weights mean nothing; what counts is the server, which nobody here wrote.
"""

import sys
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

WIDTH, LAYERS, HEADS, KV_HEADS, FEED, CONV = 64, 4, 4, 2, 128, 3
ATTENTION = {1, 3}
SPECIALS = ["<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_tokens() -> list[str]:
    """The 256 bytes as GPT-2's alphabet writes them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters, further = {byte: chr(byte) for byte in plain}, 0
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(256 + further)
            further += 1
    return [letters[byte] for byte in range(256)]


def write_model(path: Path, template: str) -> None:
    draw = np.random.default_rng(7)
    tokens = SPECIALS + byte_tokens() + ["th"]
    kinds = [gguf.TokenType.CONTROL] * len(SPECIALS) + [gguf.TokenType.NORMAL] * 257
    out = gguf.GGUFWriter(path, "lfm2")
    out.add_block_count(LAYERS)
    out.add_context_length(2048)
    out.add_embedding_length(WIDTH)
    out.add_feed_forward_length(FEED)
    out.add_head_count(HEADS)
    out.add_head_count_kv([KV_HEADS if layer in ATTENTION else 0 for layer in range(LAYERS)])
    out.add_rope_freq_base(1e6)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_vocab_size(len(tokens))
    out.add_shortconv_l_cache(CONV)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("lfm2")
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    out.add_token_merges(["t h"])
    out.add_bos_token_id(1)
    out.add_eos_token_id(4)
    out.add_pad_token_id(0)
    out.add_add_bos_token(False)
    out.add_chat_template(template)

    def tensor(name: str, *shape: int, scale: float | None = None) -> None:
        scale = shape[-1] ** -0.5 if scale is None else scale
        out.add_tensor(name, (draw.standard_normal(shape) * scale).astype(np.float32))

    def ones(name: str, size: int) -> None:
        out.add_tensor(name, np.ones(size, np.float32))

    tensor("token_embd.weight", len(tokens), WIDTH, scale=1.0)
    ones("token_embd_norm.weight", WIDTH)
    head = WIDTH // HEADS
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        ones(f"{block}.attn_norm.weight", WIDTH)
        ones(f"{block}.ffn_norm.weight", WIDTH)
        tensor(f"{block}.ffn_gate.weight", FEED, WIDTH)
        tensor(f"{block}.ffn_up.weight", FEED, WIDTH)
        tensor(f"{block}.ffn_down.weight", WIDTH, FEED)
        if layer in ATTENTION:
            tensor(f"{block}.attn_q.weight", WIDTH, WIDTH)
            tensor(f"{block}.attn_k.weight", KV_HEADS * head, WIDTH)
            tensor(f"{block}.attn_v.weight", KV_HEADS * head, WIDTH)
            tensor(f"{block}.attn_output.weight", WIDTH, WIDTH)
            ones(f"{block}.attn_q_norm.weight", head)
            ones(f"{block}.attn_k_norm.weight", head)
        else:
            tensor(f"{block}.shortconv.conv.weight", WIDTH, CONV)
            tensor(f"{block}.shortconv.in_proj.weight", 3 * WIDTH, WIDTH)
            tensor(f"{block}.shortconv.out_proj.weight", WIDTH, WIDTH)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main() -> None:
    folder = Path(sys.argv[1])
    template = Path(__file__).parent.parent / "reference/text/templates/lfm2.jinja"
    write_model(folder / "tiny.gguf", template.read_text())
    params = xllamacpp.CommonParams()
    params.model.path = str(folder / "tiny.gguf")
    params.model_alias = {"tiny-lfm2"}
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.warmup = 2048, 2, 0, False
    # More threads would wait for each other, which takes whole cores and, on a busy machine, seconds.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 2
    params.use_jinja = True
    params.port = 0
    if len(sys.argv) > 2:
        params.api_keys = [sys.argv[2]]
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
