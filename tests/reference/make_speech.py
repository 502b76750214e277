"""Makes the speech fixtures: model folders, recordings and references.

    python tests/reference/make_speech.py --out tests/fixtures

Ends with an error when a written graph does not reproduce its reference.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import speech  # noqa: F401  (sets up the imports below)
from speech import checkpoint, depthformer, folders, loops, parity, recording, references, steering, tokenizer
from speech.runtime import Speech
from speech.shapes import A, C, Shape

SEEDS_TRIED = 40


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


if __name__ == "__main__":
    main()
