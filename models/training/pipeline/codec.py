"""The codec of the assistant's voice: 24 kHz sound to 8 codes of 256 every 80 ms, and back through the published decoder's shape.

The decoder (fused embedding, 6x repetition, LFM2 with sliding attention, 1282 features, inverse STFT) is shipped; the
encoder and the residual quantiser are needed in training alone. `Codec.table()` fuses the quantiser's vectors and its
projection into the one embedding table that the published layout has.
"""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import data, store
from .lfm2 import Lfm2
from .train import Run, device, mixed, prepare

CODEBOOKS, SIZE, RATE, FRAME = 8, 256, 24000, 1920
FFT, HOP, UP = 1280, 320, 6
WIDTH, INNER, HEADS, KV_HEADS, PLAN, WINDOW = 256, 640, 8, 4, "cacac", 30
STEPS, BATCH, SEGMENT, PEAK, WARM, FREE = 3200, 8, 12, 1.5e-3, 100, 200
POLISH_STEPS, POLISH_BATCH, POLISH_SEGMENT, POLISH_PEAK = 3000, 6, 30, 8e-4


def mel_bank(n_fft: int, bins: int) -> torch.Tensor:
    """Triangles on the HTK mel scale, for the loss and the encoder's input: [n_fft/2+1, bins]."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bins + 2) / 2595) - 1)
    hz = np.linspace(0, RATE / 2, n_fft // 2 + 1)[:, None]
    shape = np.maximum(0, np.minimum((hz - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - hz) / (edges[2:] - edges[1:-1])))
    return torch.tensor(shape / np.maximum(shape.sum(0), 1e-6), dtype=torch.float32)


def magnitude(wave: torch.Tensor, n_fft: int) -> torch.Tensor:
    window = torch.hann_window(n_fft, device=wave.device)
    spectrum = torch.stft(wave, n_fft, n_fft // 4, window=window, center=True, pad_mode="constant", return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + 1e-8).sqrt().mT


class Encoder(nn.Module):
    def __init__(self, width: int = 192, out: int = 64):
        super().__init__()
        self.register_buffer("bank", mel_bank(FFT, 80), persistent=False)
        self.enter = nn.Conv1d(80, width, 5, padding=2)
        self.body = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(2))
        self.down = nn.Conv1d(width, 256, UP, stride=UP)
        self.after = nn.Conv1d(256, 256, 3, padding=1)
        self.out = nn.Linear(256, out)

    def forward(self, wave):
        """[B, n x 1920] to [B, n, 64]."""
        padded = F.pad(wave, ((FFT - HOP) // 2,) * 2)
        frames = padded.unfold(-1, FFT, HOP) * torch.hann_window(FFT, device=wave.device)
        x = (torch.fft.rfft(frames).abs() @ self.bank + 1e-5).log().mT * 0.3 + 1
        x = self.enter(x)
        for conv in self.body:
            x = x + conv(F.gelu(x))
        x = self.down(F.gelu(x))
        x = x + self.after(F.gelu(x))
        return self.out(F.gelu(x).mT)


class Quantiser(nn.Module):
    """Residual vector quantisation; the vectors follow their points by moving averages, an unused one is reseeded."""

    def __init__(self, width: int = 64, fall: float = 0.99):
        super().__init__()
        self.fall = fall
        self.register_buffer("vectors", torch.zeros(CODEBOOKS, SIZE, width))
        self.register_buffer("sums", torch.zeros(CODEBOOKS, SIZE, width))
        self.register_buffer("counts", torch.zeros(CODEBOOKS, SIZE))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def begin(self, points: torch.Tensor) -> None:
        """Starts the vectors from data: Lloyd's algorithm, codebook by codebook, on what the codebooks before left."""
        rest = points.clone()
        for book in range(CODEBOOKS):
            centres = rest[torch.randperm(len(rest))[:SIZE]].clone()
            for _ in range(12):
                near = torch.cdist(rest, centres).argmin(1)
                counts = torch.bincount(near, minlength=SIZE).float()
                sums = torch.zeros_like(centres).index_add_(0, near, rest)
                centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], rest[torch.randint(len(rest), (SIZE,))])
            self.vectors[book], self.counts[book], self.sums[book] = centres, 1.0, centres
            rest = rest - centres[torch.cdist(rest, centres).argmin(1)]
        self.ready.fill_(True)

    def codes(self, points: torch.Tensor) -> torch.Tensor:
        rest, found = points, []
        for book in range(CODEBOOKS):
            near = torch.cdist(rest, self.vectors[book]).argmin(-1)
            found.append(near)
            rest = rest - self.vectors[book][near]
        return torch.stack(found, -1)

    def forward(self, points: torch.Tensor, used: int):
        """[N, width] to the quantised points with a straight-through gradient, and the commitment loss."""
        rest, total, commit = points.detach(), torch.zeros_like(points), 0.0
        for book in range(used):
            near = torch.cdist(rest, self.vectors[book]).argmin(1)
            found = self.vectors[book][near]
            if self.training:
                with torch.no_grad():
                    hits = torch.bincount(near, minlength=SIZE).float()
                    self.counts[book].mul_(self.fall).add_(hits, alpha=1 - self.fall)
                    self.sums[book].mul_(self.fall).add_(torch.zeros_like(self.vectors[book]).index_add_(0, near, rest), alpha=1 - self.fall)
                    self.vectors[book] = self.sums[book] / self.counts[book].clamp(min=1e-5)[:, None]
                    dead = self.counts[book] < 0.01
                    if dead.any():
                        fresh = rest[torch.randint(len(rest), (int(dead.sum()),))]
                        self.vectors[book][dead], self.sums[book][dead], self.counts[book][dead] = fresh, fresh * 0.1, 0.1
            total = total + found
            rest = rest - found
        commit = F.mse_loss(points, total)
        return points + (total - points).detach(), commit


class Decoder(nn.Module):
    """The shipped half. `enter` maps a quantised point to the backbone's width; `Codec.table` fuses it away."""

    def __init__(self, point: int = 64):
        super().__init__()
        self.enter = nn.Linear(point, WIDTH)
        self.lfm = Lfm2(PLAN, WIDTH, INNER, HEADS, KV_HEADS, window=WINDOW)
        self.lin = nn.Linear(WIDTH, FFT + 2)
        nn.init.normal_(self.lin.weight, std=0.02)
        nn.init.zeros_(self.lin.bias)

    def features(self, x):
        return self.lin(self.lfm(x.repeat_interleave(UP, 1)))

    def forward(self, points):
        return synthesise(self.features(self.enter(points)).float())


def synthesise(features: torch.Tensor) -> torch.Tensor:
    """[B, T, 1282] log magnitudes and angles to [B, T x 320] samples."""
    size, angle = features.chunk(2, -1)
    size = size.clamp(max=7).exp()
    spectrum = torch.complex(size * angle.cos(), size * angle.sin())
    window = torch.hann_window(FFT, device=features.device)
    frames = (torch.fft.irfft(spectrum, FFT) * window).mT
    length = (features.shape[1] - 1) * HOP + FFT
    cut = (FFT - HOP) // 2

    def overlap(x):
        return F.fold(x, (1, length), (1, FFT), stride=(1, HOP))[:, 0, 0, cut:-cut]

    weight = window.square()[None, :, None].expand(1, FFT, features.shape[1])
    return overlap(frames) / overlap(weight)


class Codec(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.quantiser = Quantiser()
        self.decoder = Decoder()
        self.banks = {n_fft: mel_bank(n_fft, bins) for n_fft, bins in ((2048, 128), (1024, 96), (512, 64), (256, 32))}

    @torch.no_grad()
    def encode(self, wave: torch.Tensor) -> torch.Tensor:
        """[n] samples to [frames, 8] codes; the end is padded with silence to a whole frame."""
        wave = F.pad(wave, (0, -len(wave) % FRAME))
        return self.quantiser.codes(self.encoder(wave[None])[0])

    @torch.no_grad()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        points = sum(self.quantiser.vectors[book][codes[:, book]] for book in range(codes.shape[1]))
        return self.decoder(points[None])[0]

    def table(self) -> torch.Tensor:
        """[8 x 256, width]: the mean over the codebooks' rows is what `enter` makes of the summed vectors."""
        weight, bias = self.decoder.enter.weight, self.decoder.enter.bias
        return (self.quantiser.vectors @ weight.T * CODEBOOKS + bias).flatten(0, 1)

    def loss(self, wave: torch.Tensor, rng: random.Random, free: bool):
        with mixed():
            points = self.encoder(wave).float()
        flat = points.flatten(0, 1)
        commit = flat.new_zeros(())
        if not free:
            used = rng.randint(1, CODEBOOKS) if rng.random() < 0.3 else CODEBOOKS
            flat, commit = self.quantiser(flat, used)
        near, far = self.compare(wave, self.sound(flat.view_as(points)), rng.sample(sorted(self.banks), 2))
        return near + far + 0.25 * commit, {"mel": near.detach() / 2, "convergence": far.detach() / 2, "commit": commit.detach()}

    def sound(self, points: torch.Tensor) -> torch.Tensor:
        with mixed():
            features = self.decoder.features(self.decoder.enter(points))
        return synthesise(features.float())

    def compare(self, wave: torch.Tensor, made: torch.Tensor, resolutions: list[int]):
        """How far two sounds are apart, summed over the resolutions: logarithms of the spectra, spectral convergence."""
        near = far = 0.0
        for n_fft in resolutions:
            real, fake = magnitude(wave, n_fft), magnitude(made, n_fft)
            bank = self.banks[n_fft].to(wave.device)
            real_mel, fake_mel = real @ bank, fake @ bank
            near = near + F.l1_loss((fake_mel + 1e-4).log(), (real_mel + 1e-4).log()) + 0.3 * F.l1_loss((fake + 1e-3).log(), (real + 1e-3).log())
            far = far + (real_mel - fake_mel).norm() / real_mel.norm().clamp(min=1e-3)
        return near, far


def held_in(name: str) -> list[tuple[str, np.ndarray]]:
    """The last twenty generic sentences are for testing; every answer is trained, since every answer will be spoken."""
    clips = data.load_speech(name)
    return clips[:-20] if name == "generic" else clips


def train() -> None:
    prepare(1)
    where = device()
    codec = Codec().to(where)
    run = Run("codec", codec, STEPS, PEAK, WARM, decay=0.01, seed=1)
    clips = [*whole("answers"), *whole("generic")]
    length = SEGMENT * FRAME

    def batch(rng: random.Random) -> torch.Tensor:
        rows = []
        for clip in rng.choices(clips, weights=[len(clip) for clip in clips], k=BATCH):
            # A fifth begins at the start, so that the decoder knows what it is to have no past.
            start = 0 if rng.random() < 0.2 else rng.randrange(0, max(1, len(clip) - length + 1))
            row = clip[start : start + length]
            rows.append(F.pad(row, (0, length - len(row))))
        return torch.stack(rows).to(where)

    def loss_of(step: int, rng: random.Random):
        if step >= FREE and not codec.quantiser.ready:
            with torch.no_grad():
                codec.quantiser.begin(torch.cat([codec.encoder(batch(rng)).flatten(0, 1) for _ in range(40)]))
        return codec.loss(batch(rng), rng, free=not codec.quantiser.ready)

    run.go(loss_of)
    encode_answers(codec.eval())


def polish() -> None:
    """The decoder alone, from codes that stay what they are: whole answers from their start, as they will be spoken.

    The segments of `train` begin anywhere and are shorter than what the decoder looks back upon, so it has seldom seen
    its past whole. One frame in thirty has a wrong last code or two, since the assistant slips there first.
    """
    prepare(5)
    where = device()
    codec = load("codec")
    for p in [*codec.encoder.parameters(), *codec.quantiser.parameters()]:
        p.requires_grad_(False)
    run = Run("polish", codec, POLISH_STEPS, POLISH_PEAK, 50, decay=0.01, seed=5)
    answers, generic = ([(wave, codec.encode(wave.to(where)).cpu()) for wave in whole(name)] for name in ("answers", "generic"))
    shapes = sorted(codec.banks)

    def cut(source, rng: random.Random) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        wave, codes = rng.choice(source)
        start = 0 if rng.random() < 0.8 else rng.randrange(0, max(1, len(codes) - POLISH_SEGMENT + 1))
        codes = codes[start : start + POLISH_SEGMENT]
        wave = wave[start * FRAME : (start + len(codes)) * FRAME]
        short = POLISH_SEGMENT - len(codes)
        return F.pad(wave, (0, short * FRAME)), F.pad(codes, (0, 0, 0, short)), torch.arange(POLISH_SEGMENT * FRAME) < len(wave)

    def loss_of(step: int, rng: random.Random):
        rows = [cut(answers if rng.random() < 0.8 else generic, rng) for _ in range(POLISH_BATCH)]
        wave, codes, live = (torch.stack(part).to(where) for part in zip(*rows, strict=True))
        wrong = (torch.rand(codes.shape[:2], device=where) < 0.03)[..., None] & (torch.arange(CODEBOOKS, device=where) >= CODEBOOKS - 2)
        codes = torch.where(wrong, torch.randint_like(codes, SIZE), codes)
        points = sum(codec.quantiser.vectors[book][codes[..., book]] for book in range(CODEBOOKS))
        near, far = codec.compare(wave, codec.sound(points) * live, rng.sample(shapes, 3))
        return near + far, {"mel": near.detach() / 3, "convergence": far.detach() / 3}

    run.go(loss_of)


def whole(name: str) -> list[torch.Tensor]:
    return [F.pad(torch.from_numpy(pcm), (0, -len(pcm) % FRAME)) for _, pcm in held_in(name)]


def load(stage: str = "polish") -> Codec:
    codec = Codec().to(device())
    codec.load_state_dict(torch.load(store.place("checkpoints", f"{stage}.pt"), map_location=device(), weights_only=False)["model"])
    return codec.eval()


def encode_answers(codec: Codec) -> None:
    """Every answer's codes, as the assistant learns to say them: codes.npz with `codes` [frames, 8], `ends`, `texts`."""
    where = device()
    texts, made = [], []
    for text, pcm in data.load_speech("answers"):
        texts.append(text)
        made.append(codec.encode(torch.from_numpy(pcm).to(where)).cpu().numpy())
    arrays = {"codes": np.concatenate(made).astype(np.int16), "ends": np.cumsum([len(codes) for codes in made]), "texts": np.array(texts)}
    store.write(store.place("codes.npz"), lambda temporary: data.save_npz(temporary, **arrays))


def load_codes() -> dict[str, np.ndarray]:
    held = np.load(store.place("codes.npz"))
    starts = [0, *held["ends"][:-1]]
    return {str(text): held["codes"][start:end].astype(np.int64) for text, start, end in zip(held["texts"], starts, held["ends"], strict=True)}
