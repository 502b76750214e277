"""The log-mel front end of the published audio encoder, in numpy (16 kHz in, 128 bins every 10 ms out).

Promises the numbers of NeMo's AudioToMelSpectrogramPreprocessor without dither, which is what the engine computes.
"""

from functools import cache

import numpy as np

RATE, N_FFT, HOP, WINDOW, BINS = 16000, 512, 160, 400, 128
CONFIG = {"sample_rate": RATE, "window_size": 0.025, "window_stride": 0.01, "window": "hann", "n_fft": N_FFT, "win_length": WINDOW,
          "hop_length": HOP, "features": BINS, "n_mels": BINS, "fmin": 0.0, "fmax": 8000.0, "preemph": 0.97, "normalize": "per_feature",
          "log": True, "log_zero_guard_value": 2.0**-24, "dither": 0.0, "mel_norm": "slaney", "mag_power": 2.0, "pad_to": 0}


@cache
def filters() -> np.ndarray:
    """Slaney's mel filters with area normalisation: [BINS, N_FFT/2+1]."""
    step, corner, log_step = 200.0 / 3, 1000.0, np.log(6.4) / 27.0

    def to_mel(hz):
        return np.where(hz < corner, hz / step, corner / step + np.log(np.maximum(hz, corner) / corner) / log_step)

    def to_hz(mel):
        return np.where(mel < corner / step, mel * step, corner * np.exp(log_step * (mel - corner / step)))

    edges = to_hz(np.linspace(to_mel(np.array(0.0)), to_mel(np.array(RATE / 2.0)), BINS + 2))
    bins = np.linspace(0, RATE / 2, N_FFT // 2 + 1)
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    shape = np.maximum(0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return shape.astype(np.float32)


@cache
def window() -> np.ndarray:
    padded = np.zeros(N_FFT, np.float32)
    offset = (N_FFT - WINDOW) // 2
    padded[offset : offset + WINDOW] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1))
    return padded


def log_mel(samples: np.ndarray) -> np.ndarray:
    """[n] float samples to [n // 160 + 1, 128] normalised log-mel frames; the last one is zero."""
    x = samples.astype(np.float32)
    x = np.concatenate([x[:1], x[1:] - 0.97 * x[:-1]])
    x = np.pad(x, N_FFT // 2)
    valid = len(samples) // HOP
    frames = np.lib.stride_tricks.sliding_window_view(x, N_FFT)[::HOP][: valid + 1]
    power = np.abs(np.fft.rfft(frames * window(), axis=1)).astype(np.float32) ** 2
    mel = np.log(power @ filters().T + 2.0**-24)
    mean = mel[:valid].mean(0)
    deviation = np.sqrt(((mel[:valid] - mean) ** 2).sum(0) / (valid - 1)) + 1e-5
    mel = (mel - mean) / deviation
    mel[valid:] = 0
    return mel
