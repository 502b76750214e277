"""Makes every sound that is trained or tested on, once.

`speech`: the assistant's voice, 24 kHz, for the codec (answers, generic sentences, Harvard sentences for the test).
`users`: people asking, kept as half-precision mel frames in shards; each shard is made from its own seed, so an
interrupted run goes on with the next missing shard and gives the same data.
"""

import json
import random
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
from scipy.signal import fftconvolve

from . import mel, questions, sentences, store, voices

SHARD = 400
SEED = 20260
GENERIC_SPEECH, GENERIC_USERS = 600, 2400


def speech() -> None:
    for name, texts in (("answers", questions.answers()), ("generic", sentences.generic(GENERIC_SPEECH, SEED)), ("harvard", sentences.HARVARD)):
        path = store.place("speech", f"{name}.npz")
        if not path.exists():
            clips = [voices.answer(text, questions.paces().get(text, 1.0)) for text in texts]
            ends = np.cumsum([len(clip) for clip in clips])
            pcm = (np.concatenate(clips) * 32767).round().astype(np.int16)
            store.write(path, lambda temporary: save_npz(temporary, pcm=pcm, ends=ends, texts=np.array(texts)))


def save_npz(path, **arrays) -> None:
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def load_speech(name: str) -> list[tuple[str, np.ndarray]]:
    held = np.load(store.place("speech", f"{name}.npz"))
    starts = [0, *held["ends"][:-1]]
    pcm = held["pcm"].astype(np.float32) / 32767
    return [(str(text), pcm[start:end]) for text, start, end in zip(held["texts"], starts, held["ends"], strict=True)]


def user_voice(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.52:
        return f"espeak:{rng.choice(voices.ACCENTS)}+{rng.choice(voices.VARIANTS)}:{rng.randint(125, 200)}:{rng.randint(25, 75)}"
    if draw < 0.78:
        return f"flite:{rng.choice(voices.FLITE)}:{rng.uniform(0.85, 1.25):.2f}"
    return f"joe:{rng.uniform(0.84, 1.22):.2f}:{rng.uniform(0.85, 1.2):.2f}"


def wide_voice(rng: random.Random) -> str:
    """Another person each time: every engine's voices with other throats, mostly those that sound least like a machine."""
    draw = rng.random()
    if draw < 0.45:
        size = rng.uniform(0.82, 1.22)
        return f"flite:{rng.choice(['kal', *voices.FLITE])}:{rng.uniform(0.85, 1.25) * size:.2f}@{size:.2f}"
    if draw < 0.75:
        size = rng.uniform(0.88, 1.14)
        return f"espeak:{rng.choice(voices.ACCENTS)}+{rng.choice(voices.VARIANTS)}:{round(rng.randint(115, 205) / size)}:{rng.randint(10, 90)}@{size:.2f}"
    return f"joe:{rng.uniform(0.78, 1.32):.2f}:{rng.uniform(0.85, 1.25):.2f}"


def line(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three times in ten, the band of a telephone or of a poor microphone."""
    if rng.random() > 0.3:
        return samples
    spectrum, pitch = np.fft.rfft(samples), np.fft.rfftfreq(len(samples), 1 / 16000)
    low, high = rng.uniform(80, 350), rng.uniform(3200, 7000)
    return np.fft.irfft(spectrum / (1 + (low / np.maximum(pitch, 1)) ** 6) ** 0.5 / (1 + (pitch / high) ** 12) ** 0.5, len(samples))


def dress(text: str, rng: random.Random) -> str:
    """Adds, now and then, a word before or after that changes nothing."""
    if rng.random() < 0.2:
        text = f"{rng.choice(questions.source()['openers'])} {text}"
    if rng.random() < 0.12:
        text = f"{text} {rng.choice(questions.source()['closers'])}"
    return text


def degrade(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A room, a noise, another microphone, another distance: what happens to a voice on its way."""
    if rng.random() < 0.35:
        length = int(16000 * rng.uniform(0.05, 0.35))
        room = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length) * rng.uniform(0.02, 0.25)
        room[0] = 1
        samples = fftconvolve(samples, room)[: len(samples) + length // 2]
    if rng.random() < 0.3:
        tilt = rng.uniform(-0.6, 0.6)
        samples = samples + tilt * np.concatenate([[0], samples[:-1]])
    samples = np.pad(samples, (int(16000 * rng.uniform(0, 0.3)), int(16000 * rng.uniform(0.02, 0.45))))
    samples = samples / max(np.abs(samples).max(), 1e-3)
    if rng.random() < 0.75:
        power = np.sqrt((samples**2).mean()) * 10 ** (-rng.uniform(6, 35) / 20)
        noise = rng.standard_normal(len(samples))
        if rng.random() < 0.5:
            spectrum = np.fft.rfft(noise) / np.maximum(np.arange(len(noise) // 2 + 1), 20) ** rng.uniform(0.3, 1.0)
            noise = np.fft.irfft(spectrum, len(noise))
        samples = samples + noise / noise.std() * power
    else:
        samples = samples + rng.standard_normal(len(samples)) * 1e-4
    return (samples * 10 ** (-rng.uniform(0, 25) / 20)).astype(np.float32)


@cache
def plan() -> dict[str, list[dict]]:
    """Every clip to be made, by set: text, voice, number of the question's instance (-1: none), seed."""
    rng = random.Random(SEED)
    sets: dict[str, list[dict]] = {"train": [], "unseen": [], "speaker": [], "followup": [], "more": [], "later": []}

    def add(name, number, text, voice, split):
        sets[name].append({"text": text, "instance": number, "voice": voice, "split": split, "seed": rng.randrange(2**32)})

    for number, instance in enumerate(questions.instances()):
        forms = questions.kinds()[instance.kind].forms
        repeats = 8 if instance.kind == "outside" else min(10, max(2, -(-32 // len(forms))))
        for form in forms * repeats:
            add("train", number, dress(questions.ask(form, instance), rng), user_voice(rng), "forms")
    for number, text in questions.wordings("follow") * 2:
        add("train", number, dress(text, rng), user_voice(rng), "follow")
    words = questions.vocabulary()
    for position, text in enumerate(sentences.generic(GENERIC_USERS, SEED + 1)):
        if position % 2:
            text = " ".join(rng.choice(words) for _ in range(rng.randint(3, 8)))
        add("train", -1, text.lower().rstrip(".").replace("'", ""), user_voice(rng), "generic")
    rng.shuffle(sets["train"])
    by_kind: dict[str, list[tuple[int, str]]] = {}
    for number, text in questions.wordings("unseen"):
        by_kind.setdefault(questions.instances()[number].kind, []).append((number, text))
    for name in ("unseen", "speaker"):
        for kind, texts in by_kind.items():
            share = 50 if kind == "outside" else 40 if kind == "addition" else min(12, len(texts))
            for number, text in rng.sample(texts, min(share, len(texts))):
                add(name, number, text, voices.HELD_OUT if name == "speaker" else user_voice(rng), "unseen")
    for number, text in rng.sample(questions.wordings("follow"), 100):
        add("followup", number, text, voices.HELD_OUT, "follow")
    # Last, so that the sets above stay what they were.
    for number, text in questions.wordings("more") * 2:
        add("more", number, dress(text, rng), user_voice(rng), "forms")
    for number, text in questions.wordings("more"):
        if questions.instances()[number].kind == "outside" or len(questions.kinds()[questions.instances()[number].kind].instances) == 1:
            add("more", number, dress(text, rng), user_voice(rng), "forms")
    alone = {number for number, instance in enumerate(questions.instances()) if len(questions.kinds()[instance.kind].instances) == 1}
    for number, text in questions.wordings("later"):
        for _ in range(5 if number in alone else 1):
            add("later", number, dress(text, rng), wide_voice(rng), "forms")
    for number, instance in enumerate(questions.instances()):
        forms = questions.kinds()[instance.kind].forms + questions.kinds()[instance.kind].more
        for form in forms * (3 if instance.kind == "outside" else 4) if number in alone else rng.sample(forms, min(6, len(forms))):
            add("later", number, dress(questions.ask(form, instance), rng), wide_voice(rng), "forms")
    for number, text in questions.wordings("follow"):
        add("later", number, dress(text, rng), wide_voice(rng), "follow")
    rng.shuffle(sets["later"])
    return sets


def shard(name: str, index: int) -> None:
    clips = plan()[name][index * SHARD : (index + 1) * SHARD]
    frames, rows = [], []
    for clip in clips:
        rng = np.random.default_rng(clip["seed"])
        samples = voices.say(clip["voice"], clip["text"])
        if name == "later":
            samples = line(samples, rng)
        samples = degrade(samples, rng) if name in ("train", "more", "later") else clean(samples)
        made = mel.log_mel(samples).astype(np.float16)
        frames.append(made)
        rows.append({**clip, "frames": len(made)})
    base = store.place("users", f"{name}-{index:03d}")
    store.write(base.with_suffix(".npy"), lambda temporary: save_npy(temporary, np.concatenate(frames)))
    store.write(base.with_suffix(".json"), lambda temporary: temporary.write_text(json.dumps(rows)))


def clean(samples: np.ndarray) -> np.ndarray:
    """A test recording: the voice with a little room before and after, at a usual level, with faint noise."""
    samples = np.pad(samples / max(np.abs(samples).max(), 1e-3) * 0.4, (2400, 3200))
    return (samples + np.random.default_rng(len(samples)).standard_normal(len(samples)) * 5e-4).astype(np.float32)


def save_npy(path, array) -> None:
    with open(path, "wb") as file:
        np.save(file, array)


def users(workers: int = 2, names: tuple[str, ...] = ("train", "unseen", "speaker", "followup")) -> None:
    missing = [(name, index) for name in names for clips in [plan()[name]] for index in range(-(-len(clips) // SHARD)) if not store.place("users", f"{name}-{index:03d}.json").exists()]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(shard, *zip(*missing, strict=True))) if missing else None


def more() -> None:
    users(1, ("more",))


def later() -> None:
    users(2, ("later",))


class Clips:
    """The clips of one or several sets: `rows` (text, instance, voice, frames, set) and `mel(i)`, read from memory-mapped shards."""

    def __init__(self, *names: str):
        self.rows, self.where, self.shards = [], [], []
        for name, path in [(name, path) for name in names for path in sorted(store.place("users", "x").parent.glob(f"{name}-*.json"))]:
            held = np.load(path.with_suffix(".npy"), mmap_mode="r")
            start = 0
            for row in store.read_json(path):
                self.rows.append({**row, "set": name})
                self.where.append((len(self.shards), start))
                start += row["frames"]
            self.shards.append(held)

    def __len__(self) -> int:
        return len(self.rows)

    def mel(self, index: int) -> np.ndarray:
        held, start = self.where[index]
        return self.shards[held][start : start + self.rows[index]["frames"]]
