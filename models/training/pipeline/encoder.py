"""The ear: log-mel frames to one row every 80 ms, learnt first by spelling what it hears (character CTC).

A conformer after the published encoder's plan (convolutional 8x subsampling, attention and convolution blocks, adapter), cut for
training on a processor: the subsampling works on whole spectra by matrix products instead of 2-D convolutions, which took
half of a step's time, the attention is rotary, and a block has one feed-forward part instead of two halves.
"""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import data, mel, store
from .lfm2 import turn
from .train import Run, device, mixed, prepare, world

WIDTH, LAYERS, HEADS, TAPS, DROP = 192, 6, 4, 9, 0.1
LETTERS = " abcdefghijklmnopqrstuvwxyz"
SUB = 4  # character steps in a row: 20 ms each
STEPS, FRAMES, PEAK, WARM = 8000, 7200, 1.5e-3, 500
HALF_STEPS = 2500  # the half-way head helps the start alone


def drop(x, training: bool):
    """Dropout of whole features over a clip: the random numbers of ordinary dropout would take a fifth of a step."""
    if not training:
        return x
    return x * ((torch.rand(x.shape[0], 1, x.shape[2], device=x.device) > DROP).to(x.dtype) / (1 - DROP))


class Halve(nn.Module):
    """Every second position, each a product of its neighbourhood of three."""

    def __init__(self, inner: int, outer: int):
        super().__init__()
        self.mix = nn.Linear(3 * inner, outer)
        self.norm = nn.LayerNorm(outer)
        self.deep = nn.Linear(outer, outer)

    def forward(self, x):
        """[B, T, inner] to [B, ceil(T / 2), outer]."""
        x = F.pad(x, (0, 0, 1, 1 + x.shape[1] % 2))
        middle = x[:, 1:-1:2]
        x = torch.cat((x[:, 0:-2:2], middle, x[:, 2::2]), -1)
        x = F.gelu(self.norm(self.mix(x)))
        return x + F.gelu(self.deep(x))


class Block(nn.Module):
    def __init__(self, width: int = WIDTH):
        super().__init__()
        self.attention_norm, self.convolution_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.gate, self.taps, self.mixed_norm, self.convolved = nn.Linear(width, 2 * width), nn.Parameter(torch.randn(TAPS, width) * 0.2), nn.LayerNorm(width), nn.Linear(width, width)
        self.feed, self.fed = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, cos, sin, bias, live):
        batch, length, width = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(batch, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        scores = turn(q, cos, sin) @ turn(k, cos, sin).mT * (width // HEADS) ** -0.5 + bias
        y = (scores.float().softmax(-1).to(v.dtype) @ v).transpose(1, 2).reshape(batch, length, width)
        x = x + drop(self.attended(y), self.training)
        y = F.glu(self.gate(self.convolution_norm(x)), -1) * live
        padded, taps = F.pad(y, (0, 0, TAPS // 2, TAPS // 2)), self.taps.to(y.dtype)
        y = sum(padded[:, tap : tap + length] * taps[tap] for tap in range(TAPS))
        x = x + drop(self.convolved(F.silu(self.mixed_norm(y))), self.training)
        return x + self.fed(drop(F.silu(self.feed(self.feed_norm(x))), self.training))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList((Halve(mel.BINS, WIDTH), Halve(WIDTH, WIDTH), Halve(WIDTH, WIDTH)))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, frames, lengths, middle: list | None = None):
        """[B, F, 128] and [B] frame counts to [B, ceil(F / 8), width] and [B] row counts. `middle` receives the half-way rows."""
        x = frames
        for stage in self.down:
            x = x * (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]
            x = stage(x)
            lengths = (lengths + 1) // 2
        live = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None].to(x.dtype)
        bias = torch.where(live[:, None, None, :, 0] > 0, 0.0, -1e4).to(x.dtype)
        size = WIDTH // HEADS
        angle = torch.arange(x.shape[1], device=x.device)[:, None] * (1e4 ** (-torch.arange(0, size, 2, device=x.device) / size)).repeat(2)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        for number, block in enumerate(self.blocks):
            x = block(x, cos, sin, bias, live)
            if middle is not None and number == LAYERS // 2 - 1:
                middle.append(x)
        return self.norm(x), lengths


class Speller(nn.Module):
    """The encoder with its throw-away head: letters every 20 ms."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(WIDTH, SUB * (1 + len(LETTERS)))
        self.half_head = nn.Linear(WIDTH, SUB * (1 + len(LETTERS)))

    def letters(self, rows, head):
        return head(rows).float().view(rows.shape[0], -1, 1 + len(LETTERS)).log_softmax(-1)

    def loss(self, frames, lengths, texts: list[str], half: bool = False):
        """The cost at the end and, with `half`, also half-way up."""
        middle: list = []
        with mixed():
            rows, counts = self.encoder(frames, lengths, middle)
            last = ctc(self.letters(rows, self.head), counts, texts)
            return last, ctc(self.letters(middle[0], self.half_head), counts, texts) if half else last.new_zeros(())

    @torch.no_grad()
    def read(self, frames, lengths) -> list[str]:
        with mixed():
            rows, counts = self.encoder(frames, lengths)
            best = self.letters(rows, self.head).argmax(-1)
        found = []
        for line, count in zip(best.tolist(), counts.tolist(), strict=True):
            line = line[: count * SUB]
            kept = [now for before, now in zip([0, *line], line, strict=False) if now and now != before]
            found.append("".join(LETTERS[letter - 1] for letter in kept).strip())
        return found


def ctc(logs, counts, texts: list[str]):
    """Mean cost of a letter."""
    targets = [torch.tensor([LETTERS.index(letter) + 1 for letter in text]) for text in texts]
    sizes = torch.tensor([len(target) for target in targets])
    lost = F.ctc_loss(logs.transpose(0, 1), torch.cat(targets), counts.cpu() * SUB, sizes, reduction="none", zero_infinity=True)
    return lost.sum() / sizes.sum()


def spoken(text: str) -> str:
    return "".join(letter for letter in text.lower().replace("-", " ") if letter in LETTERS)


class Batches:
    """Clips of like length, `FRAMES` frames at a time, masked and stretched in time as SpecAugment does."""

    def __init__(self, clips: data.Clips, keep=None, often: dict[int, int] | None = None):
        """`often` says how many times a clip counts, once if not given."""
        self.clips = clips
        chosen = [i for i in range(len(clips)) if keep is None or keep(clips.rows[i]) for _ in range((often or {}).get(i, 1))]
        order = sorted(chosen, key=lambda i: clips.rows[i]["frames"])
        self.groups = [order[start : start + 512] for start in range(0, len(order), 512)]
        self.order = order

    def draw(self, rng: random.Random, frames: int = FRAMES) -> list[int]:
        anchor = rng.randrange(len(self.order))
        group = self.groups[anchor // 512]
        count = max(4, frames // self.clips.rows[group[-1]]["frames"])
        return rng.choices(group, k=count)

    def load(self, chosen: list[int], rng: random.Random | None = None):
        """Padded mel frames [B, F, 128], lengths [B]; augmented when a generator is given."""
        made = [np.asarray(self.clips.mel(i), np.float32) for i in chosen]
        if rng is not None:
            made = [augment(frames, rng) for frames in made]
        lengths = torch.tensor([len(frames) for frames in made])
        padded = np.zeros((len(made), int(lengths.max()), mel.BINS), np.float32)
        for row, frames in zip(padded, made, strict=True):
            row[: len(frames)] = frames
        return torch.from_numpy(padded).to(device()), lengths.to(device())

    def texts(self, chosen: list[int]) -> list[str]:
        return [spoken(self.clips.rows[i]["text"]) for i in chosen]


def augment(frames: np.ndarray, rng: random.Random) -> np.ndarray:
    length = len(frames)
    if rng.random() < 0.6:
        # Another pace, and with it another length.
        target = int(length * rng.uniform(0.85, 1.2))
        frames = frames[np.minimum((np.arange(target) * (length / target)).astype(int), length - 1)]
        length = target
    else:
        frames = frames.copy()
    if rng.random() < 0.4:
        # A longer or shorter throat: the spectrum moves by a few bins.
        shift = rng.randint(-4, 4)
        frames = np.roll(frames, shift, 1)
    for _ in range(2):
        width, start = rng.randint(0, 18), rng.randrange(mel.BINS)
        frames[:, start : start + width] = 0
    for _ in range(2):
        width = rng.randint(0, max(1, min(14, length // 14)))
        start = rng.randrange(length)
        frames[start : start + width] = 0
    return frames


def distance(a: list | str, b: list | str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def score(model: Speller, name: str, most: int = 280) -> dict[str, float]:
    """Letter and word error rates of greedy reading on a test set."""
    clips = data.Clips(name)
    batches = Batches(clips)
    letters = wrong_letters = words = wrong_words = 0
    for start in range(0, min(most, len(clips)), 40):
        chosen = list(range(start, min(start + 40, len(clips))))
        frames, lengths = batches.load(chosen)
        for heard, text in zip(model.read(frames, lengths), batches.texts(chosen), strict=True):
            letters, wrong_letters = letters + len(text), wrong_letters + distance(heard, text)
            words, wrong_words = words + len(text.split()), wrong_words + distance(heard.split(), text.split())
    return {f"{name}_cer": round(wrong_letters / letters, 4), f"{name}_wer": round(wrong_words / words, 4)}


def train() -> None:
    prepare(2)
    model = Speller().to(device())
    run = Run("encoder", model, STEPS, PEAK, WARM, seed=2)
    batches = Batches(data.Clips("train"))

    def loss_of(step: int, rng: random.Random):
        chosen = batches.draw(rng, FRAMES // world())
        frames, lengths = batches.load(chosen, rng)
        last, half = model.loss(frames, lengths, batches.texts(chosen), half=step < HALF_STEPS)
        return last + 0.3 * half, {"ctc": last.detach(), "half": half.detach(), "clips": len(chosen)}

    def look(step: int) -> None:
        # Every clip is a test of a voice or a wording that was not trained, the second set of both.
        figures = score(model, "unseen") | score(model, "speaker")
        store.log("encoder-test", step=step, **figures)

    run.go(loss_of, look=look, look_every=1000)


def load(stage: str = "encoder") -> Speller:
    model = Speller().to(device())
    model.load_state_dict(torch.load(store.place("checkpoints", f"{stage}.pt"), map_location=device(), weights_only=False)["model"])
    return model.eval()
