"""Turns and batches: what the model reads, position by position, and what it is to say next.

A `Script` is a list of items: ("text", ids, said), ("hear", clip, rows, said=False) or ("sound", codes, said). Only what
the assistant says is a target. `interleave` reproduces the published schedule: 6 text tokens, 12 audio frames, and once
the text has ended, audio to its end; then the turn ends.
"""

import random
from dataclasses import dataclass, field

import numpy as np
import torch

from . import tokens
from .assistant import CODEBOOKS, END

N_TEXT, N_AUDIO = 6, 12
NEWLINE = tokens.encode("\n")
OPEN = {role: [tokens.IM_START, *tokens.encode(f"{role}\n")] for role in ("system", "user", "assistant", "tool")}
CLOSE = [tokens.IM_END, *NEWLINE]


@dataclass
class Script:
    """Positions of one conversation. `clips` are the recordings heard, in order, with the rows that each takes."""

    kind: list[int] = field(default_factory=list)
    text: list[int] = field(default_factory=list)
    codes: list[np.ndarray] = field(default_factory=list)
    said: list[bool] = field(default_factory=list)
    clips: list[tuple[int, int]] = field(default_factory=list)

    def words(self, ids, said: bool = False) -> "Script":
        for token in ids:
            self._put(0, token, NOTHING, said)
        return self

    def hear(self, clip: int, rows: int) -> "Script":
        self.clips.append((clip, rows))
        for _ in range(rows):
            self._put(1, 0, NOTHING, False)
        return self

    def sound(self, frames, said: bool = True) -> "Script":
        for frame in frames:
            self._put(2, 0, frame, said)
        return self

    def _put(self, kind, token, frame, said):
        self.kind.append(kind)
        self.text.append(token)
        self.codes.append(frame)
        self.said.append(said)

    def begin(self, system: str | None) -> "Script":
        self.words([tokens.BOS])
        return self.words([*OPEN["system"], *tokens.encode(system), *CLOSE]) if system else self

    def answer(self, text_ids: list[int], frames: np.ndarray, short: bool = False) -> "Script":
        """An interleaved reply; `short` stops after the first run of text, where the meaning is decided."""
        text, sound, done, left = [*text_ids, tokens.TEXT_END], list(frames), False, N_TEXT
        sound.append(np.full(CODEBOOKS, END))
        speaking = False
        while sound:
            left -= 1
            if not speaking:
                token = text.pop(0)
                self.words([token], said=True)
                done = done or token == tokens.TEXT_END
                if left == 0 or done:
                    if short:
                        return self
                    speaking, left = True, N_AUDIO
            else:
                self.sound([sound.pop(0)])
                if left == 0 and not done:
                    speaking, left = False, N_TEXT
        if text:
            raise ValueError(f"the sound ends before its text: {tokens.decode(text_ids)}")
        return self.words([tokens.IM_END], said=True)

    def end(self) -> "Script":
        """The line break that closes a turn in the history."""
        return self.words(NEWLINE)


NOTHING = np.zeros(CODEBOOKS, np.int64)


@dataclass
class Batch:
    kind: torch.Tensor
    text: torch.Tensor
    codes: torch.Tensor
    next_text: torch.Tensor
    next_codes: torch.Tensor
    speaks: torch.Tensor
    clips: list[tuple[int, int]]


def pack(scripts: list[Script], device, rng: random.Random | None = None, spoil: float = 0.0) -> Batch:
    """Right-padded tensors. A share `spoil` of the audio frames that are read back is damaged, so that the model learns
    to go on from a text and a rough memory of the sound: the frames alone are a perfect key to what follows, and a
    model that trusts them never recovers from its first slip."""
    count, length = len(scripts), max(len(script.kind) for script in scripts)
    kind = np.zeros((count, length), np.int64)
    text = np.zeros((count, length), np.int64)
    codes = np.zeros((count, length, CODEBOOKS), np.int64)
    said = np.zeros((count, length), bool)
    for row, script in enumerate(scripts):
        here = len(script.kind)
        kind[row, :here], text[row, :here], said[row, :here] = script.kind, script.text, script.said
        codes[row, :here] = script.codes
    next_text, next_codes, speaks = np.full((count, length), -1), np.zeros_like(codes), np.zeros((count, length), bool)
    follows = said[:, 1:]
    next_text[:, :-1] = np.where(follows & (kind[:, 1:] == 0), text[:, 1:], -1)
    next_codes[:, :-1] = codes[:, 1:]
    speaks[:, :-1] = follows & (kind[:, 1:] == 2)
    if spoil and rng is not None:
        dice = np.random.default_rng(rng.randrange(2**60))
        frames = (kind == 2) & (codes[..., 0] != END) & (dice.random(kind.shape) < spoil)
        damage = frames[..., None] & (dice.random(codes.shape) < dice.choice([0.25, 0.6, 1.0], kind.shape)[..., None])
        codes = np.where(damage, dice.integers(0, END, codes.shape), codes)
    made = [torch.from_numpy(array).to(device) for array in (kind, text, codes, next_text, next_codes, speaks)]
    return Batch(*made, [clip for script in scripts for clip in script.clips])
