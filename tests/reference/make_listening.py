"""Records what the carried listening models answer in their own packages.

    python tests/reference/make_listening.py --out tests/fixtures

Silero's detector runs as TorchScript, not as the ONNX file that Eddy carries; Smart Turn's features and answers come from
pipecat's analyzer.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from pipecat.audio.turn.smart_turn._whisper_features import compute_whisper_log_mel_features
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from scipy.io import wavfile
from silero_vad import load_silero_vad

CHUNK = 512
REACH = 8 * 16000
# Samples of the question at which a speaker may seem to have finished.
ENDS = [12000, 20000, 30000, None]


def speech_probabilities(samples: np.ndarray) -> np.ndarray:
    model = load_silero_vad(onnx=False)
    model.reset_states()
    chunks = torch.from_numpy(samples[: len(samples) // CHUNK * CHUNK]).view(-1, CHUNK)
    with torch.no_grad():
        return np.array([model(chunk, 16000).item() for chunk in chunks], dtype=np.float32)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", type=Path, required=True)
    out = arguments.parse_args().out
    rate, pcm = wavfile.read(out / "questions" / "question.wav")
    assert rate == 16000
    samples = (pcm / 32768).astype(np.float32)

    folder = out / "listening-reference"
    folder.mkdir(exist_ok=True)
    # Silence in front and behind shows that the recurrent state comes to rest.
    padded = np.concatenate([np.zeros(8000, np.float32), samples, np.zeros(16000, np.float32)])
    np.save(folder / "speech_probabilities.npy", speech_probabilities(padded))

    analyzer = LocalSmartTurnAnalyzerV3()
    answers = [
        {"samples": len(samples[:end]), "probability": analyzer._predict_endpoint(samples[:end])["probability"]}
        for end in ENDS
    ]
    (folder / "end_of_turn.json").write_text(json.dumps(answers, indent=2) + "\n")
    whole = np.concatenate([np.zeros(REACH - len(samples), np.float32), samples])
    # Every tenth frame is enough to tell the features apart.
    np.save(folder / "turn_features.npy", compute_whisper_log_mel_features(whole)[:, ::10].copy())


if __name__ == "__main__":
    main()
