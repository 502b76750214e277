"""Makes the speech fixtures: model folders, recordings and references.

    python tests/reference/make_speech.py --out tests/fixtures

Ends with an error when a written graph does not reproduce its reference.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import onnx
import speech  # noqa: F401  (sets up the imports below)
from speech import backbone, checkpoint, depthformer, folders, genai, loops, parity, recording, references, steering, tokenizer
from speech.graph import int4
from speech.peer_runtime import PeerRuntime
from speech.runtime import Speech
from speech.shapes import A, C, VOCAB, Shape

SEEDS_TRIED = 40

VARIANTS = {
    "speech-a-faulty": "the depthformer with the published fault: no do_rotary, rotary tables of theta 1e4",
    "speech-a-old-1": "the depthformer of January 2026: 5 inputs, caches with the past before the heads",
    "speech-a-old-2": "the oldest depthformer: a projection, and a graph that is handed its slices",
}


def steered(shape: Shape, chats: dict):
    """The first model from the shape's seed on that can be made to switch modes."""
    for seed in range(shape.seed, shape.seed + SEEDS_TRIED):
        model = checkpoint.speech_model(shape, seed)
        try:
            runs = steering.steer(shape, model, chats)
        except steering.NotSteered as reason:
            print(f"{shape.name}: seed {seed}: {reason}", flush=True)
            continue
        print(f"{shape.name}: seed {seed}")
        return model, runs
    raise SystemExit(f"{shape.name}: no usable seed in {SEEDS_TRIED}")


def make_a(out: Path, kit, question) -> None:
    chats = references.prompts(kit, question)
    model, runs = steered(A, chats)
    for name, run in runs.items():
        theirs = loops.liquid_audio_items(model, chats[name], references.MODES[name], steering.plans(A)[name].limit)
        assert theirs == run.items, f"{name}: liquid-audio's generator says otherwise"
    detokenizer = checkpoint.detokenizer(A)
    references.record_shared(fresh(out / "speech-reference"), kit, question, detokenizer)
    reference = fresh(out / "speech-a-reference")
    arrays = references.record(reference, A, model, detokenizer, kit, question, chats, runs)

    folder = out / "speech-a"
    folders.layout_a(folder, A, model, detokenizer)
    parity.check("layout A, fp32", Speech(folder, A), A, kit, chats, runs, arrays)
    parity.check_int4("layout A, int4", Speech(folder, A, "_q4"), kit, chats, arrays)

    faulty = depthformer.current(A, model, faulty=True)
    forms = {
        "speech-a-faulty": {"": faulty, "_q4": int4(faulty)},
        "speech-a-old-1": {"": depthformer.first_form(A, model)},
        "speech-a-old-2": {"": depthformer.split_form(A, model), "projection": depthformer.projection(A, model)},
    }
    for name, graphs in forms.items():
        folders.depthformer_variant(out / name, graphs, folder, VARIANTS[name])
        with tempfile.TemporaryDirectory() as scratch:
            whole = composed(Path(scratch), folder, out / name)
            parity.check_depthformer(name, Speech(whole, A), runs, wrong=name == "speech-a-faulty")
    copied_cache(out)
    talkative(out)


def copied_cache(out: Path) -> None:
    decoder = onnx.load(out / "speech-a" / "onnx" / "decoder.onnx", load_external_data=False)
    what = "a decoder whose caches are copied on their way out"
    folders.decoder_variant(out / "speech-a-copied-cache", backbone.copied_cache(decoder), out / "speech-a", what)


def talkative(out: Path) -> None:
    """For tests of the live voice, which need answers of some length, whatever was asked."""
    decoder = onnx.load(out / "speech-a" / "onnx" / "decoder.onnx", load_external_data=False)
    silenced = (tokenizer.TURN_END, tokenizer.TEXT_END)
    graph = backbone.talkative(decoder, silenced, VOCAB)
    folders.decoder_variant(out / "speech-a-talkative", graph, out / "speech-a", "a decoder that never ends an answer")


def composed(scratch: Path, base: Path, variant: Path) -> Path:
    """The base folder with the variant's files over it, as a test puts it together."""
    shutil.copytree(base, scratch / "whole")
    shutil.copytree(variant, scratch / "whole", dirs_exist_ok=True)
    return scratch / "whole"


def make_c(out: Path, kit, question) -> None:
    chats = references.prompts(kit, question)
    model, runs = steered(C, chats)
    detokenizer = checkpoint.detokenizer(C)
    arrays = references.record(fresh(out / "speech-c-reference"), C, model, detokenizer, kit, question, chats, runs)
    folder = out / "speech-c"
    genai.layout_c(folder, C, model, detokenizer)
    whole = Speech(folder, C, embeddings="embeddings.onnx")
    parity.check("layout C, fp32", whole, C, kit, chats, runs, arrays)
    parity.check_int4("layout C, int4", Speech(folder, C, "_q4", embeddings="embeddings_q8.onnx"), kit, chats, arrays)
    with tempfile.TemporaryDirectory() as scratch:
        peer = PeerRuntime(folder, Path(scratch), out / "questions" / "question.wav")
        parity.check_peer("layout C, fp32, under onnxruntime-genai", peer, C, runs)


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True, help="the folder of the fixtures")
    arguments.add_argument("--only", choices=("a", "c"), help="one of the two models instead of both")
    given = arguments.parse_args()

    question = recording.make(given.out / "questions")
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.write(Path(scratch))
        kit = loops.processor(scratch)
        if given.only != "c":
            make_a(given.out, kit, question)
        if given.only != "a":
            make_c(given.out, kit, question)


if __name__ == "__main__":
    main()
