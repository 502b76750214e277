"""Layout C: the decoder by onnxruntime-genai's model builder, and the configuration its runtime reads."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
from safetensors.torch import save_file

from . import embedding, folders, tokenizer
from .graph import save
from .shapes import CODEBOOKS, Shape

PRECISIONS = {"": "fp32", "_q4": "int4"}


def checkpoint_folder(folder: Path, shape: Shape, model) -> None:
    """The part of a checkpoint that the model builder reads: configuration, tokenizer and backbone."""
    tokenizer.write(folder)
    (folder / "config.json").write_text(json.dumps(shape.checkpoint_config()))
    backbone = {f"lfm.{name}": value.contiguous() for name, value in model.lfm.state_dict().items()}
    save_file(backbone, str(folder / "model.safetensors"))


def built_decoder(
    checkpoint: Path, precision: str, scratch: Path, *, hidden_states: bool = True
) -> tuple[onnx.ModelProto, dict]:
    out = scratch / precision
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", checkpoint, "-o", out, "-p", precision]
    command += [
        "-e",
        "cpu",
        "-c",
        scratch / "cache",
        "--extra_options",
        "exclude_embeds=true",
        *(["include_hidden_states=true"] if hidden_states else []),
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the model builder failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return onnx.load(str(out / "model.onnx")), json.loads((out / "genai_config.json").read_text())


def layout_c(folder: Path, shape: Shape, model, detokenizer_model) -> None:
    graphs = folders.fresh(folder) / "onnx"
    folders.settings(folder, shape)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        checkpoint.mkdir()
        checkpoint_folder(checkpoint, shape, model)
        for suffix, precision in PRECISIONS.items():
            decoder, config = built_decoder(checkpoint, precision, Path(scratch))
            save(decoder, graphs / f"decoder{suffix}.onnx", pieces=folders.one_piece(f"decoder{suffix}"))
    save(embedding.embeddings(shape, model), graphs / "embeddings.onnx")
    save(embedding.embeddings_int8(shape, model), graphs / "embeddings_q8.onnx")
    folders.speech_graphs(graphs, shape, model, detokenizer_model)
    (folder / "genai_config.json").write_text(json.dumps(genai_config(config, shape), indent=4) + "\n")


def genai_config(config: dict, shape: Shape) -> dict:
    """The builder's configuration, made to answer in speech, at the precision a published folder names: q4."""
    named = lambda name: {"filename": f"onnx/{name}.onnx"}  # noqa: E731
    model = config["model"]
    model["decoder"].update(named("decoder_q4"))
    model["audio_token_id"] = tokenizer.AUDIO_PLACEHOLDER
    model["eos_token_id"] = [tokenizer.TURN_END]
    model["embedding"] = {
        **named("embeddings_q8"),
        "inputs": {"input_ids": "input_ids", "audio_features": "audio_features"},
        "outputs": {"inputs_embeds": "inputs_embeds"},
    }
    model["speech"] = {
        **named("audio_encoder_q4"),
        "inputs": {"audio_embeds": "mel_spectrogram", "audio_lengths": "mel_lengths", "audio_sizes": "audio_sizes"},
        "outputs": {"audio_features": "audio_embeddings"},
    }
    model["audio_output"] = {
        "depthformer": named("vocoder_depthformer_q4"),
        "embedding": named("audio_embedding_q4"),
        "num_codebooks": CODEBOOKS,
        "codebook_size": shape.codebook_size,
        "audio_start_token_id": tokenizer.AUDIO_START,
        "text_end_token_id": tokenizer.TEXT_END,
        "interleaved_n_text": shape.n_text,
        "interleaved_n_audio": shape.n_audio,
    }
    return config
