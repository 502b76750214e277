"""What a reader of the folders must reproduce, recorded from PyTorch: numbers as .npy (float32), answers as .json."""

import json
from pathlib import Path

import numpy as np
import torch

from . import loops
from .loops import Run
from .shapes import CODEBOOKS, STFT_BINS, Shape

SPOKEN_TEXT = "The kettle is on, and the rain will come before noon."
SYSTEMS = {"interleaved": loops.INTERLEAVED, "transcribe": loops.TRANSCRIBE, "speak": loops.SPEAK}
MODES = {"interleaved": "interleaved", "transcribe": "sequential", "speak": "sequential"}
CLIPS = {"0.11": 1760, "0.5": 8000, "1.0": 16000}  # seconds: samples


def prompts(kit, question: torch.Tensor) -> dict:
    return {
        "interleaved": loops.prompt(kit, loops.INTERLEAVED, samples=question),
        "transcribe": loops.prompt(kit, loops.TRANSCRIBE, samples=question),
        "speak": loops.prompt(kit, loops.SPEAK, text=SPOKEN_TEXT),
    }


def save(folder: Path, name: str, value) -> None:
    array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    np.save(folder / f"{name}.npy", np.ascontiguousarray(array))


def stft_features(detokenizer, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [6T, 1282] and samples of codes [8, T]. The features are caught on their way through `forward`."""
    caught = []
    hook = detokenizer.lin.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
    samples = detokenizer(codes[None])[0]
    hook.remove()
    return caught[0][0], samples


def run_document(kit, name: str, chat, run: Run) -> dict:
    document = {
        "system": SYSTEMS[name],
        "prompt_items": int(chat.modality_flag.shape[1]),
        "prompt": loops.prompt_pieces(kit, chat),
        "items": run.items,
        "text": kit.text.decode(run.text_ids(), skip_special_tokens=True),
        "text_with_markers": kit.text.decode(run.text_ids(), skip_special_tokens=False),
        "ended": run.ended,
    }
    return document | ({"spoken_text": SPOKEN_TEXT} if name == "speak" else {})


def write_json(path: Path, document: dict) -> None:
    """One item a line: short, and still readable in a diff."""
    lines = []
    for key, value in document.items():
        if key == "items":
            rows = ",\n".join("  " + json.dumps(item) for item in value)
            lines.append(f'"items": [\n{rows}\n]')
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def record_shared(folder: Path, kit, question: torch.Tensor, detokenizer) -> None:
    """What no model has a part in: features of clips of several lengths, and an inverse STFT."""
    folder.mkdir(parents=True, exist_ok=True)
    save(folder, "mel", loops.mel_features(kit, question))
    for seconds, count in CLIPS.items():
        # Cut from where somebody is speaking.
        save(folder, f"mel-{seconds}s", loops.mel_features(kit, question[8000 : 8000 + count]))
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(24, 2 * STFT_BINS, generator=generator)
    features[:, STFT_BINS:] *= 3
    magnitude, phase = features.T[None].chunk(2, 1)
    save(folder, "istft_features", features)
    save(folder, "istft_samples", detokenizer.istft(torch.polar(magnitude.exp(), phase))[0])


def record(folder: Path, shape: Shape, model, detokenizer, kit, question, chats: dict, runs: dict[str, Run]) -> dict:
    """Writes the references and returns the arrays for the comparison with the graphs."""
    folder.mkdir(parents=True, exist_ok=True)
    first = runs["interleaved"].steps[0]
    first_frame = next(step for step in runs["interleaved"].steps if step.mode == "audio")
    generator = torch.Generator().manual_seed(11)
    codes = torch.randint(0, shape.end_code, (CODEBOOKS, 6), generator=generator)
    answer = torch.tensor(runs["interleaved"].codes(shape.end_code)).T
    features, samples = stft_features(detokenizer, codes)
    answer_features, answer_samples = stft_features(detokenizer, answer)
    mel = loops.mel_features(kit, question)
    encoded, _ = model.conformer(mel.T[None], torch.tensor([len(mel)]))
    arrays = {
        "audio_embeddings": model.audio_adapter(encoded[0].T),
        "logits_first": first.logits,
        "hidden_first": first.hidden,
        "frame_logits": first_frame.logits,
        "frame_hidden": first_frame.hidden,
        "codes": codes,
        "codes_stft_features": features,
        "codes_samples": samples,
        "stft_features": answer_features,
        "samples": answer_samples,
    }
    for name, value in arrays.items():
        if name != "stft_features" or shape.keeps_features:
            save(folder, name, value)
    for name, run in runs.items():
        write_json(folder / f"{name}.json", run_document(kit, name, chats[name], run))
    return {name: value.detach().numpy() for name, value in arrays.items()} | {
        "mel": mel.numpy(),
        "answer": answer.numpy(),
    }
