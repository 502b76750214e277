"""The training loop that every stage shares: schedule, clipping, averaging over processes, checkpoints, curve.

A run can be stopped at any moment and goes on from its last checkpoint (two minutes apart); the data of a step depend on
the step's number alone, so an interrupted run sees what an uninterrupted one would have seen.
"""

import math
import os
import random
import signal
import sys
import time

import torch
import torch.distributed as dist
from torch import nn

from . import store

SAVE_SECONDS = 120


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half(where: torch.device) -> bool:
    """Whether bfloat16 products pay: on a GPU, and on processors with instructions for them."""
    return where.type == "cuda" or torch.cpu._is_avx512_bf16_supported()


def mixed():
    where = device()
    return torch.autocast(where.type, torch.bfloat16, enabled=half(where))


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def prepare(seed: int) -> None:
    # One thread a process: two spinning thread teams on a shared machine cost up to twenty times.
    torch.set_num_threads(int(os.environ.get("EDDY_TRAINING_THREADS", "1")))
    torch.manual_seed(seed)


def rate(step: int, steps: int, peak: float, warm: int, floor: float = 0.02) -> float:
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1, (step - warm) / max(1, steps - warm)))))


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """One flat sum over all processes. A parameter without a gradient counts as zero, so that all agree on the layout."""
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
    dist.all_reduce(flat)
    flat /= world()
    start = 0
    for p in parameters:
        p.grad = flat[start : start + p.numel()].view_as(p)
        start += p.numel()


class Run:
    def __init__(self, stage: str, model: nn.Module, steps: int, peak: float, warm: int = 100, decay: float = 0.02, seed: int = 0, rates: dict[str, float] | None = None):
        """`rates` scales the learning rate of the parameters whose name starts with a key."""
        self.stage, self.model, self.steps, self.peak, self.warm, self.seed = stage, model, steps, peak, warm, seed
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, p in model.named_parameters():
            if p.requires_grad:
                scale = next((value for key, value in (rates or {}).items() if name.startswith(key)), 1.0)
                groups.setdefault((scale, decay if p.ndim > 1 else 0.0), []).append(p)
        self.parameters = [p for group in groups.values() for p in group]
        self.optimizer = torch.optim.AdamW([{"params": group, "scale": scale, "weight_decay": wd} for (scale, wd), group in groups.items()],
                                           lr=peak, betas=(0.9, 0.98), fused=True)
        self.step, self.seconds = 0, 0.0
        path = self.path()
        if path.exists():
            held = torch.load(path, map_location=device(), weights_only=False)
            model.load_state_dict(held["model"])
            self.optimizer.load_state_dict(held["optimizer"])
            self.step, self.seconds = held["step"], held["seconds"]

    def path(self):
        return store.place("checkpoints", f"{self.stage}.pt")

    def save(self) -> None:
        if rank() == 0:
            held = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step, "seconds": self.seconds}
            store.write(self.path(), lambda temporary: torch.save(held, temporary))

    def go(self, loss_of, every: int = 50, look=None, look_every: int = 1000) -> None:
        """`loss_of(step, rng)` gives (loss, figures); `look(step)` evaluates, on the first process alone, between steps."""
        self.model.train()
        asked: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
        saved = started = time.time()
        sums: dict[str, float] = {}
        seen: dict[str, int] = {}
        while self.step < self.steps:
            for group in self.optimizer.param_groups:
                group["lr"] = rate(self.step, self.steps, self.peak, self.warm) * group["scale"]
            rng = random.Random(f"{self.seed}/{self.step}/{rank()}")
            torch.manual_seed(rng.randrange(2**60))
            loss, figures = loss_of(self.step, rng)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if world() > 1:
                average_gradients(self.parameters)
            norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
            if torch.isfinite(norm):
                self.optimizer.step()
            self.step += 1
            for key, value in figures.items():
                sums[key] = sums.get(key, 0.0) + float(value)
                seen[key] = seen.get(key, 0) + 1
            now = time.time()
            if self.step % every == 0 and rank() == 0:
                store.log(self.stage, step=self.step, of=self.steps, minutes=round((self.seconds + now - started) / 60, 1),
                          **{key: round(value / seen[key], 4) for key, value in sums.items()})
                sums, seen = {}, {}
            if asked or now - saved > SAVE_SECONDS:
                self.seconds += now - started
                started = now
                self.save()
                saved = time.time()
                if asked:
                    sys.exit(128 + asked[0])
            if look and self.step % look_every == 0 and rank() == 0:
                self.model.eval()
                with torch.no_grad():
                    look(self.step)
                self.model.train()
        self.seconds += time.time() - started
        self.save()
