"""The trained model as folders: layout A (fp32, int8 and int4 graphs) and layout C, under the cache's `folders/`.

The shipped folder is layout A with int8 graphs alone: `ship` copies those files to models/embedded/eddy-small.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from . import assistant, codec, graphs, joint, mel, store, tokens
from .examples import N_AUDIO, N_TEXT

BLOCK = 128  # weights to a scale in int8
EAR_BLOCK = 64  # the ear's width is no multiple of 128, and a padded block is stored whole
PARTS = ("decoder", "audio_encoder", "audio_embedding", "vocoder_depthformer", "audio_detokenizer")


def products(model: onnx.ModelProto, bits: int, block: int) -> onnx.ModelProto:
    """MatMul with a weight to MatMulNBits, symmetric, with int8 activations."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    copy = onnx.ModelProto.FromString(model.SerializeToString())
    quantizer = MatMulNBitsQuantizer(copy, bits=bits, block_size=block, is_symmetric=True, accuracy_level=4)
    quantizer.process()
    return quantizer.model.model


def table(model: onnx.ModelProto, weight: str, block: int = BLOCK) -> onnx.ModelProto:
    """The lookup of `weight` from 8-bit rows."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    rows = numpy_helper.to_array(next(tensor for tensor in copy.graph.initializer if tensor.name == weight))
    parts = rows.reshape(len(rows), -1, block)
    scales = np.maximum(np.abs(parts).max(-1) / 127, 1e-8).astype(np.float32)
    values = (np.clip(np.rint(parts / scales[..., None]), -127, 127) + 128).astype(np.uint8).reshape(rows.shape)
    kept = [tensor for tensor in copy.graph.initializer if tensor.name != weight]
    del copy.graph.initializer[:]
    made = {"values": values, "scales": scales, "zero_points": np.full(scales.shape, 128, np.uint8)}
    copy.graph.initializer.extend(kept + [numpy_helper.from_array(value, f"{weight}.{name}") for name, value in made.items()])
    node = next(node for node in copy.graph.node if node.op_type == "Gather" and node.input[0] == weight)
    node.CopyFrom(helper.make_node("GatherBlockQuantized", [f"{weight}.values", node.input[1], f"{weight}.scales", f"{weight}.zero_points"], list(node.output),
                                   name=node.name, domain="com.microsoft", gather_axis=0, quantize_axis=1, block_size=block, bits=8))
    return copy


def built(model: assistant.Assistant, voice: codec.Codec) -> dict[str, dict[str, onnx.ModelProto]]:
    """Every graph by name and suffix. Tables stay at 8 bits in the int4 set."""
    made = {"decoder": graphs.decoder(model), "audio_encoder": graphs.ear(model), "audio_embedding": graphs.audio_embedding(model),
            "vocoder_depthformer": graphs.depth(model), "audio_detokenizer": graphs.detokenizer(voice)}
    for graph in made.values():
        graph.producer_name = "eddy-training"
    found = {}
    for name, graph in made.items():
        forms = {"": graph}
        for suffix, bits in (("_q8", 8), ("_q4", 4)):
            small = products(graph, bits, 32 if bits == 4 else EAR_BLOCK if name == "audio_encoder" else BLOCK)
            if name == "audio_detokenizer":
                small = table(small, "codes.weight")
            if name == "audio_embedding":
                small = table(small, "audio_embedding.weight")
            forms[suffix] = small
        found[name] = forms
    return found


def config(model: assistant.Assistant) -> dict:
    return {
        "architectures": ["Lfm2AudioForConditionalGeneration"], "model_type": "lfm2_audio", "name": "eddy-embedded",
        "codebooks": assistant.CODEBOOKS, "codebook_size": assistant.ROWS, "tie_audio_embeddings": False,
        "interleaved_n_text": N_TEXT, "interleaved_n_audio": N_AUDIO, "vocab_size": tokens.ROWS,
        "lfm": {"architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2", **model.lfm.config(), "vocab_size": tokens.ROWS, "head_dim": assistant.WIDTH // assistant.HEADS,
                "max_position_embeddings": graphs.POSITIONS, "tie_word_embeddings": True, "bos_token_id": tokens.BOS, "eos_token_id": tokens.IM_END, "pad_token_id": 0},
        "depthformer": {"layers": assistant.DEPTH_LAYERS, "dim": assistant.DEPTH, "tie": True},
        "preprocessor": {key: mel.CONFIG[key] for key in ("sample_rate", "normalize", "window_size", "window_stride", "window", "features", "n_fft", "log", "dither", "pad_to")},
        "codec": {"sample_rate": codec.RATE, "samples_per_frame": codec.FRAME, "codebook_size": codec.SIZE, "sliding_window": codec.WINDOW, "layers": codec.PLAN},
    }


# No system prompt of its own; the reply to a tool is a turn of the role `tool`.
CHAT_TEMPLATE = """{{- bos_token -}}
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def settings(folder: Path, model: assistant.Assistant) -> None:
    put = lambda name, value: (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")  # noqa: E731
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    put("config.json", config(model))
    (folder / "tokenizer.json").write_text(json.dumps(tokens.document(), ensure_ascii=False, separators=(",", ":")) + "\n")
    put("tokenizer_config.json", tokens.settings())
    put("generation_config.json", {"do_sample": False, "bos_token_id": tokens.BOS, "eos_token_id": tokens.IM_END, "pad_token_id": 0})
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    put("onnx/mel_config.json", mel.CONFIG | {"log_zero_guard": mel.CONFIG["log_zero_guard_value"]})
    rows = model.lfm.embed_tokens.weight.detach().numpy().astype("<f4")
    (folder / "onnx" / "embed_tokens.bin").write_bytes(rows.tobytes())
    put("onnx/embed_tokens.json", {"vocab_size": rows.shape[0], "hidden_size": rows.shape[1], "dtype": "float32", "byte_order": "little"})
    put("onnx/audio_embedding.json", {"vocab_size": assistant.CODEBOOKS * assistant.ROWS, "hidden_size": rows.shape[1], "num_codebooks": assistant.CODEBOOKS,
                                      "codebook_vocab": assistant.ROWS, "dtype": "float32", "byte_order": "little"})


def layout_a(folder: Path, model, made) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    settings(folder, model)
    for name, forms in made.items():
        for suffix, graph in forms.items():
            (folder / "onnx" / f"{name}{suffix}.onnx").write_bytes(graph.SerializeToString(deterministic=True))


def layout_c(folder: Path, model, made) -> None:
    """The decoder by onnxruntime-genai's own builder, in fp32 and int4, and the configuration its runtime reads."""
    from safetensors.torch import save_file
    from speech import genai

    shutil.rmtree(folder, ignore_errors=True)
    settings(folder, model)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        settings(checkpoint, model)
        save_file({f"lfm.{name}": value.contiguous() for name, value in model.lfm.state_dict().items()}, str(checkpoint / "model.safetensors"))
        for suffix, precision in genai.PRECISIONS.items():
            decoder, told = genai.built_decoder(checkpoint, precision, Path(scratch))
            (folder / "onnx" / f"decoder{suffix}.onnx").write_bytes(decoder.SerializeToString(deterministic=True))
    lookup = graphs.embeddings(model)
    for name, graph in {"embeddings": lookup, "embeddings_q8": table(lookup, "embed_tokens.weight")}.items():
        (folder / "onnx" / f"{name}.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    for name, forms in made.items():
        for suffix in ("", "_q4") if name != "decoder" else ():
            (folder / "onnx" / f"{name}{suffix}.onnx").write_bytes(forms[suffix].SerializeToString(deterministic=True))
    (folder / "genai_config.json").write_text(json.dumps(genai.genai_config(told, graphs.SHAPE), indent=4) + "\n")


def folders(stage: str = "typed") -> None:
    model, voice = joint.load(stage).cpu(), codec.load().cpu()
    made = built(model, voice)
    layout_a(store.place("folders", "a"), model, made)
    layout_c(store.place("folders", "c"), model, made)
    sizes = {f"{name}{suffix}": len(graph.SerializeToString()) for name, forms in made.items() for suffix, graph in forms.items()}
    totals = {suffix or "fp32": sum(size for name, size in sizes.items() if (name[-3:] if name[-3:-1] == "_q" else "") == suffix) for suffix in ("", "_q8", "_q4")}
    store.write_json(store.place("figures", "sizes.json"), sizes | {"total": totals})
    print(sizes, totals)


def ship(target: Path = store.SOURCE.parent / "embedded" / "eddy-small") -> None:
    """The int8 graphs, the settings and the card to the repository: what Eddy carries."""
    source = store.place("folders", "a")
    shutil.rmtree(target, ignore_errors=True)
    (target / "onnx").mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_file() and (path.suffix != ".onnx" or path.stem.endswith("_q8")):
            shutil.copyfile(path, target / name)
    shutil.copyfile(store.place("card.md"), target / "README.md")
