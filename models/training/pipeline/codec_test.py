"""What the codec costs: the judge's word error rate on the answers before and after it, and by the number of codebooks."""

import numpy as np
import torch

from . import codec, data, judge, store
from .train import device


def measure(name: str, most: int, books: tuple[int, ...] = (8,)) -> dict:
    model = codec.load()
    clips = data.load_speech(name)
    chosen = clips[-20:] if name == "generic" else clips[:: max(1, len(clips) // most)][:most]
    found = {"clips": len(chosen)}
    for count in (0, *books):
        wrong = words = same = 0
        for text, pcm in chosen:
            if count:
                pcm = model.decode(model.encode(torch.from_numpy(pcm).to(device()))[:, :count]).detach().cpu().numpy()
            heard = judge.hear(np.clip(pcm, -1, 1), codec.RATE)
            slips, length = judge.errors(heard, text)
            wrong, words, same = wrong + slips, words + length, same + judge.right(heard, text)
        found["original" if not count else f"{count} codebooks"] = {"wer": round(wrong / words, 4), "right": round(same / len(chosen), 4)}
    return found


def report(most: int = 60) -> None:
    figures = {name: measure(name, most) for name in ("answers", "generic", "harvard")}
    store.write_json(store.place("figures", "codec.json"), figures)
    print(figures)
