"""The question bank: reads questions.toml and expands it to instances, wordings and dialogues.

An `Instance` is one fact with its one answer; a wording is a text that asks for it. Everything is in a fixed order, so
that an answer's number stays the same as long as the file does.
"""

import re
import tomllib
from dataclasses import dataclass, field
from functools import cache

from .store import SOURCE

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
           "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]
PIECE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Instance:
    kind: str
    slots: tuple[tuple[str, str], ...]
    answer: str
    tool_call: str | None = None


@dataclass
class Kind:
    name: str
    instances: list[Instance]
    forms: list[str]
    unseen: list[str]
    more: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    follow: list[str] = field(default_factory=list)
    follow_unseen: list[str] = field(default_factory=list)
    # What could stand in the first slot and is not in the bank: asked for, it is outside.
    beyond: list[str] = field(default_factory=list)
    beyond_unseen: list[str] = field(default_factory=list)


def sums(_):
    return [{"a": NUMBERS[a], "b": NUMBERS[b], "sum": NUMBERS[a + b]} for a in range(1, 10) for b in range(1, 10)]


def counts(_):
    return [{"n": NUMBERS[n], "list": capital(", ".join(NUMBERS[1 : n + 1]))} for n in range(3, 11)]


def letters(kind):
    return [{"word": word, "list": ", ".join(word.upper())} for word in kind["words"]]


TABLES = {"sums": sums, "counts": counts, "letters": letters}


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def fill(template: str, slots: dict[str, str]) -> str:
    return PIECE.sub(lambda m: slots[m[1]] if m[1] in slots else capital(slots[m[1].lower()]), template)


def ask(form: str, instance: Instance) -> str:
    """The wording as it is spoken: small letters, no punctuation."""
    return fill(form, dict(instance.slots)).lower().replace("-", " ")


@cache
def source() -> dict:
    return tomllib.loads((SOURCE / "questions.toml").read_text())


@cache
def kinds() -> dict[str, Kind]:
    found = {}
    for kind in source()["kind"]:
        if "table" in kind:
            rows = TABLES[kind["table"]](kind)
        else:
            rows = [dict(zip(kind.get("columns", []), row, strict=True)) for row in kind.get("rows", [[]])]
        instances = []
        for slots in rows:
            call = f"[{kind['tool']}(minutes={slots['minutes']})]" if "tool" in kind else None
            instances.append(Instance(kind["name"], tuple(slots.items()), fill(kind["answer"], slots), call))
        found[kind["name"]] = Kind(kind["name"], instances, kind["forms"], kind["unseen"], kind.get("more", []), kind.get("later", []), kind.get("follow", []), kind.get("follow_unseen", []), kind.get("beyond", []), kind.get("beyond_unseen", []))
    return found


@cache
def instances() -> list[Instance]:
    return [instance for kind in kinds().values() for instance in kind.instances]


@cache
def paces() -> dict[str, float]:
    """How much longer than usual the assistant takes for an answer."""
    slow = {kind["name"]: kind.get("pace", 1.0) for kind in source()["kind"]}
    return {instance.answer: slow[instance.kind] for instance in instances()}


@cache
def answers() -> list[str]:
    return list(dict.fromkeys(instance.answer for instance in instances()))


def wordings(split: str) -> list[tuple[int, str]]:
    """(number of the instance, text) of every question. `split`: "forms", "more", "later" and "unseen" ask completely, "follow" and "follow_unseen" lean on the turn before."""
    return [(number, ask(form, instance)) for number, instance in enumerate(instances()) for form in getattr(kinds()[instance.kind], split)]


def chain(before: Instance, after: Instance) -> Instance | None:
    """What `after`, asked with a follow-up wording, means once `before` has been answered; None if it means nothing."""
    if before.kind != after.kind:
        return None
    if before.kind != "addition":
        return after if before != after else None
    return BY_SUM().get((dict(before.slots)["sum"], dict(after.slots)["b"]))


@cache
def BY_SUM() -> dict[tuple[str, str], Instance]:
    return {(dict(i.slots)["a"], dict(i.slots)["b"]): i for i in kinds()["addition"].instances}


@cache
def vocabulary() -> list[str]:
    """Every word that is asked or answered, small letters, in order of appearance."""
    texts = [text for split in ("forms", "unseen", "follow", "follow_unseen") for _, text in wordings(split)]
    texts += source()["openers"] + source()["closers"] + [answer.lower() for answer in answers()]
    return list(dict.fromkeys(re.findall(r"[a-z]+", " ".join(texts))))
