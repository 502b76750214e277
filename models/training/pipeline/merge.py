"""One set of weights from several: the plain average, and TIES, which first drops small changes and outvotes conflicts.

Both take the checkpoints of runs that began from the same weights. A merge is kept only if the test sets say so.
"""

import torch

from . import joint, lessons, store
from .joint import SETTLE_STEPS

Weights = dict[str, torch.Tensor]


def average(models: list[Weights], shares: list[float] | None = None) -> Weights:
    shares = shares or [1 / len(models)] * len(models)
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares add up to {sum(shares)}, not to 1")
    return {name: value if not value.is_floating_point() else sum(share * model[name] for share, model in zip(shares, models, strict=True)).to(value.dtype)
            for name, value in models[0].items()}


def ties(base: Weights, models: list[Weights], density: float = 0.5, strength: float = 1.0) -> Weights:
    """Keeps the largest `density` of each model's changes, elects a sign for each weight by their sum, and adds the mean of those that agree."""
    merged = {}
    for name, start in base.items():
        if not start.is_floating_point():
            merged[name] = start
            continue
        changes = torch.stack([trim(model[name] - start, density) for model in models])
        sign = changes.sum(0).sign()
        agreeing = (changes.sign() == sign) & (changes != 0)
        merged[name] = start + strength * (changes * agreeing).sum(0) / agreeing.sum(0).clamp(min=1)
    return merged


def trim(change: torch.Tensor, density: float) -> torch.Tensor:
    kept = max(1, round(density * change.numel()))
    least = change.abs().flatten().kthvalue(change.numel() - kept + 1).values
    return torch.where(change.abs() >= least, change, torch.zeros_like(change))


def checkpoints(stages: list[str], into: str, how=average) -> None:
    """Merges `checkpoints/STAGE.pt` of each stage into one that the other modules load like any."""
    models = [torch.load(store.place("checkpoints", f"{stage}.pt"), map_location="cpu", weights_only=False)["model"] for stage in stages]
    store.write(store.place("checkpoints", f"{into}.pt"), lambda temporary: torch.save({"model": how(models)}, temporary))


def last_ones() -> None:
    """Averages of the settling stage's last snapshots with its end, by how many test questions each begins to answer right.

    Written to `figures/merge.json`. The end of the run is what is shipped: with a rate that falls to nothing the last
    snapshots differ little, and the test sets are too small to choose by.
    """
    snapshots = [f"settle-{step}" for step in range(300, SETTLE_STEPS, 300)][-3:]
    school, found = lessons.Lessons(), {}
    for count in range(len(snapshots) + 1):
        parts = [*snapshots[len(snapshots) - count :], "settle"]
        if count:
            checkpoints(parts, "merged")
        model = joint.load("merged" if count else "settle")
        found[" + ".join(parts)] = joint.understood(model, "unseen", school) | joint.understood(model, "speaker", school)
        store.write_json(store.place("figures", "merge.json"), found)
    print(found)
