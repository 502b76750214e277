"""The lookups that make decoder inputs: of audio codes (`audio_embedding`), of tokens and audio rows (`embeddings`)."""

import json
from pathlib import Path

import numpy as np
import onnx
import torch

from .graph import FLOAT, INT64, Graph
from .shapes import BLOCK, CODEBOOKS, Shape
from .tokenizer import AUDIO_PLACEHOLDER


def audio_embedding(shape: Shape, model) -> onnx.ModelProto:
    """Rows of the table; codes come as code + size * codebook, and the 8 rows of a frame are to be summed."""
    g = Graph("audio_embedding")
    codes = g.input("audio_codes", INT64, ["batch_size", "audio_length"])
    g.node(
        "Gather",
        [g.constant("audio_embedding.weight", model.audio_embedding.embedding.weight), codes],
        "audio_embeds",
        axis=0,
    )
    g.output("audio_embeds", FLOAT, ["batch_size", "audio_length", shape.hidden])
    return g.model()


def embeddings(shape: Shape, model) -> onnx.ModelProto:
    """Layout C: row i of `audio_features` takes the place of the i-th placeholder token."""
    g = Graph("embeddings")
    ids = g.input("input_ids", INT64, ["batch_size", "sequence_length"])
    features = g.input("audio_features", FLOAT, ["num_audio_tokens", shape.hidden])
    text = g.node("Gather", [g.constant("embed_tokens.weight", model.lfm.embed_tokens.weight), ids], "text", axis=0)
    placed = g.node("Equal", [ids, g.constant("placeholder", np.int64(AUDIO_PLACEHOLDER))], "placed")
    where = g.node("Transpose", [g.node("NonZero", [placed], "placed/where")], "placed/indices", perm=[1, 0])
    g.node("ScatterND", [text, where, features], "inputs_embeds")
    g.output("inputs_embeds", FLOAT, ["batch_size", "sequence_length", shape.hidden])
    return g.model()


def raw_table(folder: Path, name: str, table: torch.Tensor, **extra) -> None:
    """A table as bare little-endian float32, with its sizes beside it."""
    (folder / f"{name}.bin").write_bytes(table.detach().numpy().astype("<f4").tobytes())
    rows, width = table.shape
    sizes = {"vocab_size": rows, "hidden_size": width, **extra, "dtype": "float32", "byte_order": "little"}
    (folder / f"{name}.json").write_text(json.dumps(sizes, indent=2) + "\n")


def raw_tables(folder: Path, shape: Shape, model) -> None:
    raw_table(folder, "embed_tokens", model.lfm.embed_tokens.weight)
    extra = {"num_codebooks": CODEBOOKS, "codebook_vocab": shape.codebook_size}
    raw_table(folder, "audio_embedding", model.audio_embedding.embedding.weight, **extra)


def embeddings_int8(shape: Shape, model) -> onnx.ModelProto:
    """`embeddings` with an 8-bit table, as generation C folders have it beside an int4 decoder."""
    return int8_table(embeddings(shape, model), model.lfm.embed_tokens.weight.detach().numpy())


def int8_table(graph: onnx.ModelProto, table: np.ndarray) -> onnx.ModelProto:
    graph = onnx.ModelProto.FromString(graph.SerializeToString())
    blocks = table.reshape(len(table), -1, BLOCK)
    scales = np.maximum(np.abs(blocks).max(-1) / 127, 1e-8).astype(np.float32)
    values = (np.clip(np.rint(blocks / scales[..., None]), -127, 127) + 128).astype(np.uint8).reshape(table.shape)
    parts = {"values": values, "scales": scales, "zero_points": np.full(scales.shape, 128, np.uint8)}
    names = [f"embed_tokens.{part}" for part in parts]
    kept = [tensor for tensor in graph.graph.initializer if tensor.name != "embed_tokens.weight"]
    del graph.graph.initializer[:]
    tables = [onnx.numpy_helper.from_array(value, name) for name, value in zip(names, parts.values())]
    graph.graph.initializer.extend(kept + tables)
    lookup = next(node for node in graph.graph.node if node.op_type == "Gather")
    lookup.CopyFrom(
        onnx.helper.make_node(
            "GatherBlockQuantized",
            [names[0], lookup.input[1], names[1], names[2]],
            list(lookup.output),
            name=lookup.name,
            domain="com.microsoft",
            gather_axis=0,
            quantize_axis=1,
            block_size=BLOCK,
            bits=8,
        )
    )
    return graph
