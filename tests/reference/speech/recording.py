"""The recorded question: espeak-ng speaks it, sox brings it to the rates and widths the tests want.

Promises: nothing is made when the recordings are there already. Another version of espeak-ng speaks with slightly other
samples, and every reference depends on them, so the committed recordings are the source of truth.
"""

import subprocess
from pathlib import Path

import numpy as np
import torch
from scipy.io import wavfile

WORDS = "What is the weather like today, and will it rain?"


def make(folder: Path) -> torch.Tensor:
    """Writes what is missing and returns the samples at 16 kHz, -1..1."""
    question = folder / "question.wav"
    if not question.exists():
        folder.mkdir(parents=True, exist_ok=True)
        spoken = folder / "question-22050-mono.wav"
        subprocess.run(["espeak-ng", "-v", "en-gb", "-s", "165", "-w", spoken, WORDS], check=True)
        # -R: the same dither in every run.
        for arguments in (
            [spoken, "-b", "16", question, "rate", "-v", "16000"],
            [spoken, "-b", "16", folder / "question-44100-stereo.wav", "rate", "-v", "44100", "remix", "1", "1v0.8"],
        ):
            subprocess.run(["sox", "-R", *map(str, arguments)], check=True)
    rate, samples = wavfile.read(question)
    assert rate == 16000 and samples.dtype == np.int16 and samples.ndim == 1
    return torch.from_numpy(samples.astype(np.float32) / 32768)
