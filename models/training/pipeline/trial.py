"""Whether distillation and ordering earn their place: short continuations of one snapshot that differ in nothing else.

`python -m pipeline.trial` goes on from the snapshot in the middle of `settle`, with questions of which only the first run
of text is answered, where hearing shows:

- `plain`: cross entropy, clips drawn evenly;
- `distilled`: half of the cost is the divergence from a teacher, the ensemble of the last three snapshots;
- `ordered`: clips drawn from easy to hard, by how many snapshots of different ages begin their answer right.

What each begins to answer right goes to `figures/trial.json`; an arm that is there is not run again.
"""

import random

import torch
import torch.nn.functional as F

from . import curriculum, data, distill, joint, store, train
from .assistant import Assistant
from .examples import N_TEXT
from .lessons import Lessons
from .train import mixed

START, TEACHERS, READERS = "settle-1200", ("settle-1800", "settle-2100", "settle-2400"), ("settle-300", "settle-900", "settle-1500")
CLIPS, STEPS, BATCH, PEAK, K = 1600, 160, 16, 3e-4, 16
ARMS = ("plain", "distilled", "ordered")


def begins_right(model: Assistant, clips: data.Clips, chosen: list[int], lessons: Lessons) -> list[bool]:
    found = []
    for start in range(0, len(chosen), 40):
        some = chosen[start : start + 40]
        wanted = [lessons.first_words(clips.rows[clip]["instance"]) for clip in some]
        found += [said[:N_TEXT] == words for said, words in zip(joint.first_words(model, clips, some), wanted, strict=True)]
    return found


def teaching(teachers: list[Assistant], batch, loud, lengths, kept) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The ensemble's mean distribution over the text targets, as a distillation keeps it."""
    mean = 0
    with torch.no_grad(), mixed():
        for teacher in teachers:
            rows, counts = teacher.hear(loud, lengths)
            text, _ = teacher(batch, live_rows(rows[kept], counts[kept]))
            mean = mean + text.float().softmax(-1) / len(teachers)
    return distill.keep(mean.clamp(min=1e-9).log(), K)


def live_rows(rows, counts):
    return rows[torch.arange(rows.shape[1]) < counts[:, None]]


def run(arm: str, hearing: joint.Hearing, lessons: Lessons, chosen: list[int], order: curriculum.Order | None) -> dict[str, float]:
    train.prepare(7)
    model = joint.load(START).train()
    model.ear.half_head.requires_grad_(False)
    teachers = [joint.load(name) for name in TEACHERS] if arm == "distilled" else []
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=PEAK, betas=(0.9, 0.98), weight_decay=0.02)
    for step in range(STEPS):
        rng = random.Random(f"trial/{step}")
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = train.rate(step, STEPS, PEAK, 10)
        draw = (lambda: chosen[order.draw(step / STEPS, rng)]) if order else (lambda: rng.choice(chosen))
        clips = sorted({draw() for _ in range(BATCH)})
        loud, lengths = hearing.asked.load(clips, rng)
        scripts, kept = [], []
        for place, clip in enumerate(clips):
            script = lessons.talk_heard(clip, {**hearing.clips.rows[clip], "frames": int(lengths[place])}, rng, short=True)
            if script is not None:
                scripts.append(script)
                kept.append(place)
        batch = joint.pack(scripts, torch.device("cpu"), rng, 0.0)
        with mixed():
            rows, counts = model.hear(loud, lengths)
            text, _ = model(batch, live_rows(rows[kept], counts[kept]))
        target = batch.next_text[batch.next_text >= 0]
        if teachers:
            cost = distill.mixed(text.float(), target, teaching(teachers, batch, loud, lengths, kept))
        else:
            cost = F.cross_entropy(text.float(), target)
        optimizer.zero_grad(set_to_none=True)
        cost.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 20 == 0:
            store.log("trial", arm=arm, step=step + 1, cost=round(float(cost), 4))
    model.eval()
    return joint.understood(model, "unseen", lessons) | joint.understood(model, "speaker", lessons)


def main() -> None:
    train.prepare(7)
    path = store.place("figures", "trial.json")
    found = store.read_json(path) if path.exists() else {}
    hearing, lessons = joint.Hearing(), Lessons()
    asked = sorted(set(hearing.asked.order))
    chosen = random.Random("trial").sample(asked, min(CLIPS, len(asked)))
    if "before" not in found:
        model = joint.load(START)
        found["before"] = joint.understood(model, "unseen", lessons) | joint.understood(model, "speaker", lessons)
        store.write_json(path, found)
    for arm in ARMS:
        if arm in found:
            continue
        order = None
        if arm == "ordered":
            hard = curriculum.difficulty([begins_right(joint.load(name), hearing.clips, chosen, lessons) for name in READERS])
            found["difficulty"] = curriculum.spread(hard)
            order = curriculum.Order(hard)
        found[arm] = run(arm, hearing, lessons, chosen, order)
        store.write_json(path, found)
    print(found)


if __name__ == "__main__":
    main()
