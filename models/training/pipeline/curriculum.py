"""Easy before hard, where an ensemble says what is easy.

Every model of an ensemble (checkpoints of different ages or seeds) tries every clip; the share that fails is the clip's
difficulty. Training starts with the clips that most can do and admits the harder ones until, at `full`, all are in.
"""

import random
from bisect import bisect_right

from . import data, encoder, store


def difficulty(successes: list[list[bool]]) -> list[float]:
    """One list a model, one entry a clip: the share of the models that fail it."""
    return [1 - sum(tries) / len(tries) for tries in zip(*successes, strict=True)]


class Order:
    def __init__(self, difficulties: list[float], start: float = 0.4, full: float = 0.5):
        """At the beginning the easiest `start` of the clips are in; from the share `full` of the training on, all are."""
        self.order = sorted(range(len(difficulties)), key=lambda i: (difficulties[i], i))
        self.start, self.full = start, full

    def admitted(self, progress: float) -> int:
        share = self.start + (1 - self.start) * min(1.0, progress / self.full)
        return max(1, round(share * len(self.order)))

    def draw(self, progress: float, rng: random.Random) -> int:
        return self.order[rng.randrange(self.admitted(progress))]


def by_reading(stages: list[str], most: float = 0.2) -> list[float]:
    """The training clips' difficulty for the ear: a reader succeeds whose letters are wrong at most to the share `most`."""
    batches = encoder.Batches(data.Clips("train"))
    tried = []
    for stage in stages:
        model, wins = encoder.load(stage), [False] * len(batches.order)
        for group in batches.groups:
            for start in range(0, len(group), 64):
                chosen = group[start : start + 64]
                frames, lengths = batches.load(chosen)
                for clip, heard, text in zip(chosen, model.read(frames, lengths), batches.texts(chosen), strict=True):
                    wins[clip] = encoder.distance(heard, text) <= most * len(text)
        tried.append(wins)
    found = difficulty(tried)
    store.write_json(store.place("figures", "difficulty.json"), found)
    return found


def spread(difficulties: list[float], bounds: tuple[float, ...] = (0.01, 0.34, 0.67, 0.99)) -> list[int]:
    """How many clips lie between the bounds: all can, most can, few can, none can."""
    counts = [0] * (len(bounds) + 1)
    for value in difficulties:
        counts[bisect_right(bounds, value)] += 1
    return counts
