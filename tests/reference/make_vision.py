"""Makes the vision fixtures: a tiny model in two layouts, pictures, what the image processor makes of them, and answers.

    python tests/reference/make_vision.py --out tests/fixtures

Ends with an error when a written graph does not reproduce its reference.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import transformers.utils.chat_template_utils as rendering

import vision  # noqa: F401  (sets up the imports below)
from speech import tokenizer
from speech.embedding import int8_table
from speech.genai import built_decoder
from speech.graph import save
from speech.parity import Table
from text import chats
from vision import checkpoint, graphs, images, processor
from vision.runtime import Vision
from vision.shapes import IMAGE_TOKEN, PROCESSOR, TINY

GENERATION = {"bos_token_id": 1, "eos_token_id": 7, "temperature": 0.1, "min_p": 0.15, "repetition_penalty": 1.05}
TEMPLATE = "lfm25_vl"
LEAST_COSINE = 0.98
# The conversations whose answers are recorded: one image in tiles, and two images of which one is thin.
ANSWERED = (0, 2)
# Rows of logits that are recorded; the ids of the rest follow from them.
LOGITS = 32


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def settings(folder: Path, made) -> None:
    tokenizer.write(folder)
    (folder / "chat_template.jinja").write_text(chats.template(TEMPLATE))
    (folder / "config.json").write_text(json.dumps(made.config.to_diff_dict(), indent=2, sort_keys=True) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(GENERATION, indent=2) + "\n")


def record_processor(folder: Path, template: str):
    """Pictures, grids and grey levels, rendered conversations."""
    (folder / "images").mkdir()
    images.write(folder / "images")
    described, pixels = processor.files(folder / "images")
    (folder / "files.json").write_text(processor.lines(described))
    np.save(folder / "files.npy", np.concatenate([part.reshape(-1) for part in pixels]))
    cases, sampled = processor.sizes()
    (folder / "sizes.json").write_text(processor.lines(cases))
    np.save(folder / "sizes.npy", sampled)
    kit, answers, inputs = processor.rendered(template, folder / "images")
    (folder / "conversations.json").write_text(processor.lines(answers))
    return kit, answers, inputs


def record_answers(folder: Path, kit, made, answers: list[dict], inputs: list[dict], runs: list) -> list[np.ndarray]:
    """For each answered conversation: pixels as grey levels, features, logits, ids. Returns the features."""
    record, all_features = [], []
    for index, (ids, logits) in zip(ANSWERED, runs):
        parts = processor.entries(inputs[index])
        grey = np.concatenate([processor.levels(part, PROCESSOR) for part in parts])
        features = checkpoint.features(made, inputs[index]).numpy()
        np.save(folder / f"pixels-{index}.npy", grey.reshape(-1, graphs.PATCH))
        np.save(folder / f"features-{index}.npy", features)
        np.save(folder / f"logits-{index}.npy", logits[:LOGITS].numpy().astype(np.float32))
        text = kit.tokenizer.decode(ids, skip_special_tokens=False)
        record.append({"conversation": index, "patches": inputs[index]["spatial_shapes"].tolist(), "ids": ids, "text": text})
        all_features.append(features)
    (folder / "greedy.json").write_text(processor.lines(record))
    return all_features


def check(model: Vision, title: str, answers: list[dict], inputs: list[dict], runs: list, features: list, *, exact: bool) -> None:
    table = Table(title)
    for index, (ids, logits), wanted in zip(ANSWERED, runs, features):
        sizes = inputs[index]["spatial_shapes"].tolist()
        rows = model.features(processor.entries(inputs[index]), sizes)
        got = model.forced(answers[index]["ids"], ids, rows)
        if exact and min(min(size) for size in sizes) < TINY.side:
            # Positions are interpolated down: published graphs leave out the antialias of the reference.
            away = float(np.abs(rows - wanted).max())
            table.row(f"{index}: features", f"max diff {away:.1e}, thin", 1e-3 < away)
            got = model.forced(answers[index]["ids"], ids, wanted)
        elif exact:
            table.near(f"{index}: features", rows, wanted)
        else:
            table.close(f"{index}: features", rows, wanted, LEAST_COSINE)
        if exact:
            table.near(f"{index}: logits", got, logits.numpy())
            table.equal(f"{index}: greedy ids", got.argmax(1).tolist(), ids)
        else:
            table.close(f"{index}: logits", got, logits.numpy(), LEAST_COSINE)
    table.end()


def write(folder: Path, made: dict, sets: dict, proof: tuple) -> None:
    """`made`: graphs by file stem. `sets`: which of them run together."""
    for stem, graph in made.items():
        save(graph, folder / "onnx" / f"{stem}.onnx", pieces=lambda _, stem=stem: f"{stem}.onnx_data")
    for title, stems in sets.items():
        model = Vision(*(folder / "onnx" / f"{stem}.onnx" for stem in stems))
        check(model, f"{folder.name}, {title}", *proof, exact=title == "fp32")


def layout_a(folder: Path, made, proof: tuple) -> None:
    (fresh(folder) / "onnx").mkdir()
    settings(folder, made)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR, indent=2, sort_keys=True) + "\n")
    eye, decoder, lookup = graphs.encoder(TINY, made, flat=False), graphs.decoder(TINY, made), graphs.embed_tokens(made)
    outside = ("pixel_values", "image_embeddings")
    written = {
        "embed_images": eye,
        "embed_images_fp16": graphs.half(eye, *outside),
        "embed_images_q4": graphs.quantised(eye, 4),
        "decoder": decoder,
        "decoder_fp16": graphs.half(decoder, "inputs_embeds", "logits"),
        "decoder_q4": graphs.quantised(decoder, 4),
        "embed_tokens": lookup,
        "embed_tokens_fp16": graphs.half(lookup),
    }
    sets = {
        "fp32": ("decoder", "embed_images", "embed_tokens"),
        "fp16": ("decoder_fp16", "embed_images_fp16", "embed_tokens_fp16"),
        "q4": ("decoder_q4", "embed_images_q4", "embed_tokens_fp16"),
    }
    write(folder, written, sets, proof)

    # The same weights in the same order: the graph is read with the other folder's data file.
    (fresh(folder.parent / "vision-a-conv2d") / "onnx").mkdir()
    planes = folder / "onnx" / "planes.onnx"
    save(graphs.encoder(TINY, made, flat=False, planes=True), planes, pieces=lambda _: "embed_images.onnx_data")
    variant = folder.parent / "vision-a-conv2d"
    planes.rename(variant / "onnx" / "embed_images.onnx")
    (variant / "README.md").write_text(
        "Layout A with the encoder of the rare exports that take pixels as planes, `spatial_h` and `spatial_w`.\n\n"
        f"This file goes over those of `../{folder.name}`, which has everything else.\n"
    )


def layout_c(folder: Path, made, proof: tuple) -> None:
    (fresh(folder) / "onnx").mkdir()
    settings(folder, made)
    inside = {"image_processor": PROCESSOR, "processor_class": "Lfm2VlProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(inside, indent=2, sort_keys=True) + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "checkpoint"
        checkpoint.save_backbone(made, TINY, source)
        decoder, _ = built_decoder(source, "fp32", Path(scratch), hidden_states=False)
        decoder_q4, config = built_decoder(source, "int4", Path(scratch), hidden_states=False)
    eye, lookup = graphs.encoder(TINY, made, flat=True), graphs.embeddings(made)
    table = made.model.language_model.embed_tokens.weight.detach().numpy()
    written = {
        "vision_encoder": eye,
        "vision_encoder_q8": graphs.quantised(eye, 8),
        "decoder": decoder,
        "decoder_q4": decoder_q4,
        "embeddings": lookup,
        "embeddings_q8": int8_table(lookup, table),
    }
    sets = {
        "fp32": ("decoder", "vision_encoder", "embeddings"),
        "q4": ("decoder_q4", "vision_encoder_q8", "embeddings_q8"),
    }
    write(folder, written, sets, proof)
    (folder / "genai_config.json").write_text(json.dumps(genai_config(config), indent=4) + "\n")


def genai_config(config: dict) -> dict:
    """The builder's configuration with the parts of a vision folder, at the precision that a published one names: q4."""
    model = config["model"]
    model["type"] = "lfm2_vl"
    model["image_token_id"] = IMAGE_TOKEN
    model["decoder"]["filename"] = "onnx/decoder_q4.onnx"
    model["embedding"] = {
        "filename": "onnx/embeddings_q8.onnx",
        "inputs": {"input_ids": "input_ids", "image_features": "image_features"},
        "outputs": {"inputs_embeds": "inputs_embeds"},
    }
    model["vision"] = {
        "filename": "onnx/vision_encoder_q8.onnx",
        "inputs": {name: name for name in ("pixel_values", "pixel_attention_mask", "spatial_shapes")},
        "outputs": {"image_features": "image_features"},
    }
    return config


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True, help="the folder of the fixtures")
    given = arguments.parse_args()

    rendering.datetime = chats.Frozen
    folder = fresh(given.out / "vision-reference")
    kit, answers, inputs = record_processor(folder, chats.template(TEMPLATE))
    made, runs = checkpoint.chosen(TINY, [inputs[index] for index in ANSWERED])
    features = record_answers(folder, kit, made, answers, inputs, runs)
    proof = (answers, inputs, runs, features)
    layout_a(given.out / "vision-a", made, proof)
    layout_c(given.out / "vision-c", made, proof)


if __name__ == "__main__":
    main()
