"""Model folders as a user has them, layout by layout."""

import json
import shutil
from pathlib import Path

import onnx

from . import backbone, depthformer, detokenizer, embedding, encoder, tokenizer
from .graph import int4, save
from .shapes import MEL_CONFIG, Shape


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "onnx").mkdir(parents=True)
    return folder


def settings(folder: Path, shape: Shape) -> None:
    tokenizer.write(folder)
    (folder / "config.json").write_text(json.dumps(shape.checkpoint_config(), indent=2) + "\n")
    (folder / "onnx" / "mel_config.json").write_text(json.dumps(MEL_CONFIG, indent=2) + "\n")


def one_piece(stem: str):
    return lambda _weight: f"{stem}.onnx_data"


def tables_apart(stem: str, tables: tuple[str, ...], shared: str):
    """Everything in `<stem>.onnx_data`, the tables in a file that the graphs of a model have in common.

    A published int4 graph has a copy of these fp32 tables of its own. Here it names the fp32 graph's file, which saves
    megabytes; a graph names its files itself, so it is read no differently.
    """
    return lambda weight: shared if weight in tables else f"{stem}.onnx_data"


DEPTH_TABLES = "vocoder_depthformer.onnx_data_1"


def save_depthformer(model, folder: Path, suffix: str = "") -> None:
    stem = f"vocoder_depthformer{suffix}"
    save(model, folder / f"{stem}.onnx", pieces=tables_apart(stem, depthformer.TABLES, DEPTH_TABLES))


def speech_graphs(onnx: Path, shape: Shape, model, detokenizer_model) -> None:
    """What layouts A and C have in common, fp32 and int4."""
    graph = encoder.build(shape, model)
    save(graph, onnx / "audio_encoder.onnx")
    save(int4(graph), onnx / "audio_encoder_q4.onnx")

    # The raw table holds the very bytes of the graph's only weight, so the graph names it as its data file. The
    # published "q4" of this graph is fp32 too.
    embedding.raw_tables(onnx, shape, model)
    graph = embedding.audio_embedding(shape, model)
    for suffix in ("", "_q4"):
        save(graph, onnx / f"audio_embedding{suffix}.onnx", pieces=lambda _weight: "audio_embedding.bin")

    graph = depthformer.current(shape, model)
    save_depthformer(graph, onnx)
    save_depthformer(int4(graph), onnx, "_q4")

    graph = detokenizer.build(shape, detokenizer_model)
    for suffix, built in (("", graph), ("_q4", int4(graph))):
        stem, shared = f"audio_detokenizer{suffix}", "audio_detokenizer.onnx_data_1"
        save(built, onnx / f"{stem}.onnx", pieces=tables_apart(stem, detokenizer.TABLES, shared))


def layout_a(folder: Path, shape: Shape, model, detokenizer_model) -> None:
    onnx = fresh(folder) / "onnx"
    settings(folder, shape)
    graph = backbone.build(shape, model)
    save(graph, onnx / "decoder.onnx", pieces=one_piece("decoder"))
    # As published: int4 layers under an fp32 head.
    save(int4(graph, keep=(backbone.LM_HEAD,)), onnx / "decoder_q4.onnx", pieces=one_piece("decoder_q4"))
    speech_graphs(onnx, shape, model, detokenizer_model)


def depthformer_variant(folder: Path, graphs: dict, tables_from: Path, what: str) -> None:
    """A folder that holds what differs from layout A's; the rest, the tables too, is taken from there by the tests."""
    onnx = fresh(folder) / "onnx"
    shutil.copy(tables_from / "onnx" / DEPTH_TABLES, onnx / DEPTH_TABLES)
    for suffix, graph in graphs.items():
        if suffix == "projection":
            save(graph, onnx / "vocoder_projection.onnx")
        else:
            save_depthformer(graph, onnx, suffix)
    (onnx / DEPTH_TABLES).unlink()
    (folder / "README.md").write_text(
        f"Layout A with {what}.\n\nThese files go over those of `../{tables_from.name}`, which has everything else.\n"
    )


def decoder_variant(folder: Path, graph: onnx.ModelProto, base: Path, what: str) -> None:
    """A folder with another decoder graph, whose weights are those of the base folder's file."""
    (fresh(folder) / "onnx" / "decoder.onnx").write_bytes(graph.SerializeToString())
    (folder / "README.md").write_text(
        f"Layout A with {what}.\n\nThese files go over those of `../{base.name}`, which has everything else.\n"
    )
