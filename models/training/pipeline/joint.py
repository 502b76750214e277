"""The two stages that train the assistant itself.

`tongue`: from typed questions to text and sound, without the ear; it learns the bank and the assistant's speech while the
ear is still being trained. `joint`: both together, from recordings. Four of five joint steps end after the first run of
text, which is where hearing shows and costs a third of a whole answer.
"""

import random

import torch

from . import data, encoder, store, tokens
from .assistant import Assistant
from .examples import CLOSE, N_TEXT, OPEN, Script, pack
from .lessons import Lessons
from .train import Run, device, mixed, prepare, world

TONGUE_STEPS, TONGUE_PEAK, TONGUE_BATCH = 1600, 2e-3, 20
JOINT_STEPS, JOINT_PEAK, SHORT_FRAMES, LONG_FRAMES = 5000, 1e-3, 7200, 3600
SPOIL = 0.3


def train_tongue() -> None:
    prepare(3)
    model = Assistant().to(device())
    for p in [*model.ear.parameters(), *model.audio_adapter.parameters()]:
        p.requires_grad_(False)
    run = Run("tongue", model, TONGUE_STEPS, TONGUE_PEAK, 150, seed=3)
    lessons = Lessons()
    count = TONGUE_BATCH // world()

    def loss_of(step: int, rng: random.Random):
        draw = random.Random(f"lesson/{step}").random()  # the same for all processes, so that none waits
        if draw < 0.12:
            scripts = [lessons.followup_typed(rng) for _ in range(count // 2)]
        elif draw < 0.22:
            scripts = [lessons.chat(rng) for _ in range(2 * count)]
        elif draw < 0.5:
            scripts = [lessons.say(rng) for _ in range(count)]
        else:
            scripts = [lessons.talk_typed(rng) for _ in range(count)]
        text, audio, figures = model.losses(pack(scripts, device(), rng, SPOIL))
        return text + 2 * audio, figures

    run.go(loss_of)


class Hearing:
    """Batches of recordings for the joint stage: questions, follow-ups and (for writing down) everything."""

    def __init__(self):
        clips = data.Clips("train", "more")
        self.clips = clips
        self.asked = encoder.Batches(clips, lambda row: row["split"] == "forms")
        self.leaning = encoder.Batches(clips, lambda row: row["split"] == "follow")
        self.all = encoder.Batches(clips)


def heard_batch(model: Assistant, hearing: Hearing, lessons: Lessons, source: encoder.Batches, make, frames: int, rng: random.Random):
    """Draws recordings, makes scripts of those that `make` accepts, runs the ear; gives batch, rows and the ear's letters' cost."""
    scripts, kept = [], []
    # A draw of which every clip is refused, such as long ones whose answers do not fit, is drawn again.
    while not scripts:
        chosen = source.draw(rng, frames)
        loud, lengths = source.load(chosen, rng)
        for place, clip in enumerate(chosen):
            row = {**hearing.clips.rows[clip], "frames": int(lengths[place])}
            script = make(clip, row)
            if script is not None:
                scripts.append(script)
                kept.append(place)
    loud, lengths = loud[kept], lengths[kept]
    with mixed():
        rows, counts = model.ear.encoder(loud, lengths)
        letters = model.ear.letters(rows, model.ear.head)
        adapted = model.audio_adapter["model"](rows)
    live = torch.arange(rows.shape[1], device=rows.device) < counts[:, None]
    cost = encoder.ctc(letters, counts, [encoder.spoken(hearing.clips.rows[chosen[place]]["text"]) for place in kept])
    return pack(scripts, device(), rng, SPOIL), adapted[live], cost


@torch.no_grad()
def first_words(model: Assistant, clips: data.Clips, chosen: list[int]) -> list[list[int]]:
    """The first run of text of each answer, greedy: what the model has understood."""
    batches = encoder.Batches(clips)
    loud, lengths = batches.load(chosen)
    with mixed():
        rows, counts = model.hear(loud, lengths)
    said: list[list[int]] = [[] for _ in chosen]
    for _ in range(N_TEXT):
        scripts = []
        for place, clip in enumerate(chosen):
            script = Script().begin(tokens.INTERLEAVED).words(OPEN["user"]).hear(clip, int(counts[place])).words(CLOSE).words(OPEN["assistant"])
            scripts.append(script.words(said[place]))
        batch = pack(scripts, device())
        live = torch.arange(rows.shape[1], device=rows.device) < counts[:, None]
        with mixed():
            hidden = model.lfm(model.embed(batch, rows[live]))
            last = hidden[torch.arange(len(chosen)), torch.tensor([len(script.kind) - 1 for script in scripts])]
            best = torch.nn.functional.linear(last, model.lfm.embed_tokens.weight).argmax(-1).tolist()
        for line, token in zip(said, best, strict=True):
            if not line or line[-1] not in (tokens.TEXT_END, tokens.IM_END):
                line.append(token)
    return said


def understood(model: Assistant, name: str, lessons: Lessons) -> dict[str, float]:
    """Share of test questions whose answer begins right, known and outside ones apart."""
    clips = data.Clips(name)
    right = {"known": [], "outside": []}
    order = sorted(range(len(clips)), key=lambda i: clips.rows[i]["frames"])
    for start in range(0, len(order), 40):
        chosen = order[start : start + 40]
        for clip, said in zip(chosen, first_words(model, clips, chosen), strict=True):
            instance = lessons.instances[clips.rows[clip]["instance"]]
            if instance.tool_call:
                wanted = [tokens.CALL_START, *tokens.encode(instance.tool_call), tokens.CALL_END, tokens.IM_END]
            else:
                wanted = [*lessons.text[instance.answer], tokens.TEXT_END]
            right["outside" if instance.kind == "outside" else "known"].append(said[:N_TEXT] == wanted[:N_TEXT])
    return {f"{name}_{key}": round(sum(values) / len(values), 4) for key, values in right.items()}


def train_joint() -> None:
    prepare(4)
    model = Assistant().to(device())
    if not store.place("checkpoints", "joint.pt").exists():
        model.load_state_dict(torch.load(store.place("checkpoints", "tongue.pt"), map_location=device(), weights_only=False)["model"])
        model.ear.load_state_dict(encoder.load().state_dict())
    model.ear.half_head.requires_grad_(False)
    run = Run("joint", model, JOINT_STEPS, JOINT_PEAK, 200, seed=4, rates={"ear": 0.4, "depth": 0.5})
    hearing, lessons = Hearing(), Lessons()

    def loss_of(step: int, rng: random.Random):
        draw = random.Random(f"lesson/{step}").random()  # the same for all processes, so that none waits
        if draw < 0.08:
            count = 20 // world()
            scripts = [lessons.talk_typed(rng) for _ in range(count)] if draw < 0.03 else [lesson(rng) for _ in range(count // 3) for lesson in (lessons.chat, lessons.say, lessons.say)]
            text, audio, figures = model.losses(pack(scripts, device(), rng, SPOIL))
            return text + audio, {}
        if draw < 0.16:
            source, frames, make = hearing.all, SHORT_FRAMES, lambda clip, row: lessons.write_down(clip, row)
            name = "write"
        elif draw < 0.26:
            source, frames, make = hearing.leaning, LONG_FRAMES, lambda clip, row: lessons.followup_heard(clip, row, rng, short=True)
            name = "follow"
        elif draw < 0.86:
            source, frames, make = hearing.asked, SHORT_FRAMES, lambda clip, row: lessons.talk_heard(clip, row, rng, short=True)
            name = "short"
        else:
            source, frames, make = hearing.asked, LONG_FRAMES, lambda clip, row: lessons.talk_heard(clip, row, rng)
            name = "long"
        batch, heard, letters = heard_batch(model, hearing, lessons, source, make, frames // world(), rng)
        text, audio, figures = model.losses(batch, heard)
        told = {f"{name}_{key}": value for key, value in figures.items() if key in ("text", "text_right", "codes_right")}
        return text + 2 * audio + 0.15 * letters, told | {"ctc": letters.detach()}

    def look(step: int) -> None:
        store.log("joint-test", step=step, **understood(model, "unseen", lessons), **understood(model, "speaker", lessons))

    run.go(loss_of, look=look, look_every=250)


def load(stage: str = "joint") -> Assistant:
    model = Assistant().to(device())
    model.load_state_dict(torch.load(store.place("checkpoints", f"{stage}.pt"), map_location=device(), weights_only=False)["model"])
    return model.eval()
