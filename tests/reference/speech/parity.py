"""Compares the written graphs with the references and prints what it finds. A miss ends the run."""

import numpy as np

from . import loops
from .peer_runtime import expected
from .references import MODES
from .runtime import Speech
from .shapes import Shape
from .steering import plans
from .tokenizer import TURN_END

TOLERANCE = 1e-5


class Table:
    def __init__(self, title: str):
        self.title, self.failed = title, []
        print(f"\n{title}")

    def row(self, name: str, value: str, good: bool) -> None:
        print(f"  {name:<28} {value:<22} {'' if good else 'FAILED'}")
        if not good:
            self.failed.append(name)

    def near(self, name: str, got: np.ndarray, wanted: np.ndarray) -> None:
        difference = float(np.abs(got - wanted).max()) if got.shape == wanted.shape else np.inf
        scale = max(1.0, float(np.abs(wanted).max()))
        self.row(name, f"max diff {difference:.1e}", difference <= TOLERANCE * scale)

    def close(self, name: str, got: np.ndarray, wanted: np.ndarray, least: float) -> None:
        cosine = float((got * wanted).sum() / np.linalg.norm(got) / np.linalg.norm(wanted))
        self.row(name, f"cosine {cosine:.4f}", cosine >= least)

    def equal(self, name: str, got: list, wanted: list) -> None:
        same = sum(a == b for a, b in zip(got, wanted))
        self.row(name, f"{same} of {len(wanted)} items", got == wanted)

    def end(self) -> None:
        if self.failed:
            raise SystemExit(f"{self.title}: {', '.join(self.failed)} do not match the reference")


def check(title: str, speech: Speech, shape: Shape, kit, chats: dict, runs: dict, arrays: dict) -> None:
    table = Table(title)
    rows = speech.encode(arrays["mel"])
    table.near("audio_embeddings", rows, arrays["audio_embeddings"])
    for name, run in runs.items():
        pieces = loops.prompt_pieces(kit, chats[name])
        embeds = speech.prompt(pieces, rows if name != "speak" else None)
        if name == "interleaved":
            speech.start()
            logits, hidden = speech.step(embeds)
            table.near("logits_first", logits, arrays["logits_first"])
            table.near("hidden_first", hidden, arrays["hidden_first"])
            table.near("frame_logits", speech.frame(arrays["frame_hidden"])[1], arrays["frame_logits"])
        table.equal(name, speech.generate(embeds, MODES[name], plans(shape)[name].limit).items, run.items)
    table.near("stft_features", speech.features(arrays["answer"]), arrays["stft_features"])
    table.near("codes_stft_features", speech.features(arrays["codes"]), arrays["codes_stft_features"])
    table.end()


def check_int4(title: str, speech: Speech, kit, chats: dict, arrays: dict, least: float = 0.98) -> None:
    table = Table(title)
    rows = speech.encode(arrays["mel"])
    table.close("audio_embeddings", rows, arrays["audio_embeddings"], least)
    speech.start()
    logits, hidden = speech.step(
        speech.prompt(loops.prompt_pieces(kit, chats["interleaved"]), arrays["audio_embeddings"])
    )
    table.close("logits_first", logits, arrays["logits_first"], least)
    table.close("hidden_first", hidden, arrays["hidden_first"], least)
    table.close(
        "frame_logits, codebook 0", speech.frame(arrays["frame_hidden"])[1][0], arrays["frame_logits"][0], least
    )
    table.close("stft_features", speech.features(arrays["answer"]), arrays["stft_features"], least)
    table.end()


def check_depthformer(title: str, speech: Speech, runs: dict, wrong: bool = False) -> None:
    """Every frame of the interleaved run again. The faulty form must differ, but not in the first code."""
    table = Table(title)
    steps = [step for step in runs["interleaved"].steps if step.mode == "audio"]
    got = [speech.frame(step.hidden.numpy())[0] for step in steps]
    wanted = [step.chosen for step in steps]
    if wrong:
        table.equal("first codes", [codes[0] for codes in got], [codes[0] for codes in wanted])
        differing = sum(a != b for a, b in zip(got, wanted))
        table.row("frames that differ", f"{differing} of {len(wanted)}", differing > 0)
    else:
        table.equal("frames", got, wanted)
    table.end()


def check_peer(title: str, peer, shape: Shape, runs: dict) -> None:
    """onnxruntime-genai's own run of a layout C folder against the references."""
    table = Table(title)
    for name, run in runs.items():
        tokens, frames = peer.answer(name)
        wanted_tokens, wanted_frames = expected(run, name, shape.end_code, TURN_END)
        table.equal(f"{name}, tokens", tokens, wanted_tokens)
        table.equal(f"{name}, frames", frames, wanted_frames)
    table.end()
