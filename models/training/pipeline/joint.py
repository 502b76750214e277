"""The three stages that train the assistant itself.

`tongue`: from typed questions to text and sound, without the ear; it learns the bank and the assistant's speech while the
ear is still being trained. `joint`: both together, from recordings. Four of five joint steps end after the first run of
text, which is where hearing shows and costs a third of a whole answer. `settle`: goes on from `joint` with a rate that starts anew,
more voices, and whole conversations, in which the subject changes or stays; what `joint` still gets wrong weighs more.
"""

import random

import torch

from . import data, encoder, questions, store, tokens
from .assistant import Assistant
from .examples import CLOSE, N_TEXT, OPEN, Script, pack
from .lessons import Lessons, rows_of
from .train import Run, device, mixed, prepare, rank, world

TONGUE_STEPS, TONGUE_PEAK, TONGUE_BATCH = 1600, 2e-3, 20
JOINT_STEPS, JOINT_PEAK, SHORT_FRAMES, LONG_FRAMES = 5000, 1e-3, 7200, 3600
SETTLE_STEPS, SETTLE_PEAK, TALK_FRAMES, TALK_TURNS = 2434, 7e-4, 4000, 5
# How often a clip is drawn: small talk has few wordings and one answer each, and is what people try first.
# What is outside has endless wordings.
SMALL_TALK, OUTSIDE, NEW_VOICES = 3, 5, 2
# From this step on hearing is good and speech is not yet: more conversations, and in them every answer equally often, those
# that are longest in being learnt three times.
SPEECH_FROM, SLOW_TO_LEARN = 1269, ("opposite", "colour", "spell", "unit")
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

    def __init__(self, *sets: str):
        clips = data.Clips(*(sets or ("train", "more")))
        self.clips = clips
        self.asked = encoder.Batches(clips, lambda row: row["split"] == "forms")
        self.leaning = encoder.Batches(clips, lambda row: row["split"] == "follow")
        self.all = encoder.Batches(clips)


class Talks(Hearing):
    """Batches for the settling stage: all clips, and conversations made of them."""

    def __init__(self):
        super().__init__("train", "more", "later")
        instances, kinds = questions.instances(), questions.kinds()
        known = [clip for clip, row in enumerate(self.clips.rows) if row["instance"] >= 0]

        def weight(row: dict) -> int:
            kind = instances[row["instance"]].kind
            return (OUTSIDE if kind == "outside" else SMALL_TALK if len(kinds[kind].instances) == 1 else 1) * (NEW_VOICES if row["set"] == "later" else 1)

        often = {clip: weight(self.clips.rows[clip]) for clip in known}
        self.asked = encoder.Batches(self.clips, lambda row: row["split"] == "forms", often)
        self.asking: dict[int, list[int]] = {}
        for clip in dict.fromkeys(self.asked.order):
            self.asking.setdefault(self.clips.rows[clip]["instance"], []).append(clip)
        self.shares = [40 if instances[number].kind == "outside" else 3 if instances[number].kind in SLOW_TO_LEARN else 1 for number in self.asking]
        self.following: dict[str, list[int]] = {}
        for clip in known:
            if self.clips.rows[clip]["split"] == "follow":
                self.following.setdefault(instances[self.clips.rows[clip]["instance"]].kind, []).append(clip)

    def follow(self, before: int, rng: random.Random) -> tuple[int, int] | None:
        """(clip, what it means) of a question that leans on the instance `before`; None where nothing leans on it."""
        instances = questions.instances()
        for clip in rng.choices(self.following.get(instances[before].kind, [-1]), k=6):
            meant = questions.chain(instances[before], instances[self.clips.rows[clip]["instance"]]) if clip >= 0 else None
            if meant:
                return clip, instances.index(meant)
        return None

    def conversation(self, rng: random.Random, evenly: bool) -> list[tuple[int, int]]:
        """One to five turns of (clip, what it means), drawn by clip or evenly by answer; half of those that can lean on the one before do."""
        turns: list[tuple[int, int]] = []
        for _ in range(rng.randint(1, TALK_TURNS)):
            clip = rng.choice(self.asking[rng.choices(list(self.asking), self.shares)[0]] if evenly else self.asked.order)
            leaning = self.follow(turns[-1][1], rng) if turns and rng.random() < 0.5 else None
            turns.append(leaning or (clip, self.clips.rows[clip]["instance"]))
        return turns


def talk_batch(model: Assistant, talks: Talks, lessons: Lessons, frames: int, rng: random.Random, evenly: bool):
    """Conversations in which every turn is heard and answered in full: batch, rows and the ear's letters' cost."""
    conversations: list[list[tuple[int, int]]] = []
    while sum(talks.clips.rows[clip]["frames"] for turns in conversations for clip, _ in turns) < frames:
        conversations.append(talks.conversation(rng, evenly))
    chosen = [clip for turns in conversations for clip, _ in turns]
    loud, lengths = talks.all.load(chosen, rng)
    scripts, place = [], 0
    for turns in conversations:
        script = Script().begin(tokens.INTERLEAVED)
        for _, meant in turns:
            script.words(OPEN["user"]).hear(place, rows_of(int(lengths[place]))).words(CLOSE)
            lessons.reply(script, meant, rng).end()
            place += 1
        scripts.append(script)
    adapted, _, cost = listen(model, loud, lengths, [talks.clips.rows[clip]["text"] for clip in chosen])
    batch = pack(scripts, device(), rng, SPOIL)
    return batch, torch.cat([adapted[place, :count] for place, count in batch.clips]), cost


def listen(model: Assistant, loud, lengths, texts: list[str]):
    """Adapted rows [B, R, width], row counts, and the cost of spelling the texts."""
    with mixed():
        rows, counts = model.ear.encoder(loud, lengths)
        letters = model.ear.letters(rows, model.ear.head)
        adapted = model.audio_adapter["model"](rows)
    return adapted, counts, encoder.ctc(letters, counts, [encoder.spoken(text) for text in texts])


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
    adapted, counts, cost = listen(model, loud, lengths, [hearing.clips.rows[chosen[place]]["text"] for place in kept])
    live = torch.arange(adapted.shape[1], device=adapted.device) < counts[:, None]
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
            wanted = lessons.first_words(clips.rows[clip]["instance"])
            right["outside" if instance.kind == "outside" else "known"].append(said[:N_TEXT] == wanted)
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

    if rank() == 0:
        store.write_json(store.place("checkpoints", "joint-words.json"), tokens.tokenizer().get_vocab())
    run.go(loss_of, look=look, look_every=250)


def settled_from() -> dict[str, torch.Tensor]:
    """The weights of `joint`, the text table's rows moved to where their words are now.

    `joint-words.json` says which words the rows stood for: answers may have been reworded since.
    """
    weights = torch.load(store.place("checkpoints", "joint.pt"), map_location=device(), weights_only=False)["model"]
    before, now = store.read_json(store.place("checkpoints", "joint-words.json")), tokens.tokenizer().get_vocab()
    if before == now:
        return weights
    bare = {word.lstrip("Ġ").lower(): row for word, row in before.items()}
    for name in [name for name, value in weights.items() if name.endswith("embed_tokens.weight")]:
        old, new = weights[name], weights[name].mean(0).repeat(tokens.ROWS, 1)
        for word, row in now.items():
            from_row = before.get(word, bare.get(word.lstrip("Ġ").lower()))
            if from_row is not None:
                new[row] = old[from_row]
        weights[name] = new
    return weights


def train_settle() -> None:
    prepare(6)
    model = Assistant().to(device())
    if not store.place("checkpoints", "settle.pt").exists():
        model.load_state_dict(settled_from())
    model.ear.half_head.requires_grad_(False)
    run = Run("settle", model, SETTLE_STEPS, SETTLE_PEAK, 150, seed=6, rates={"ear": 0.5, "depth": 0.7})
    talks, lessons = Talks(), Lessons()

    def loss_of(step: int, rng: random.Random):
        draw = random.Random(f"settle/{step}").random()  # the same for all processes, so that none waits
        speech = step >= SPEECH_FROM
        if draw < 0.08:
            count = 20 // world()
            scripts = [lessons.followup_typed(rng) for _ in range(count // 2)] if draw < 0.02 else [lesson(rng) for _ in range(count // 3) for lesson in (lessons.chat, lessons.say, lessons.talk_typed)]
            text, audio, figures = model.losses(pack(scripts, device(), rng, SPOIL))
            return text + 2 * audio, {}
        if draw < (0.48 if speech else 0.36):
            batch, heard, letters = talk_batch(model, talks, lessons, TALK_FRAMES // world(), rng, speech)
            name = "talk"
        else:
            if draw < (0.6 if speech else 0.5):
                source, frames, make = talks.all, SHORT_FRAMES, lambda clip, row: lessons.write_down(clip, row)
                name = "write"
            elif draw < (0.66 if speech else 0.58):
                source, frames, make = talks.leaning, LONG_FRAMES, lambda clip, row: lessons.followup_heard(clip, row, rng, short=True)
                name = "follow"
            else:
                source, frames, make = talks.asked, SHORT_FRAMES, lambda clip, row: lessons.talk_heard(clip, row, rng, short=True)
                name = "short"
            batch, heard, letters = heard_batch(model, talks, lessons, source, make, frames // world(), rng)
        text, audio, figures = model.losses(batch, heard)
        told = {f"{name}_{key}": value for key, value in figures.items() if key in ("text", "text_right", "codes_right")}
        return text + 2 * audio + 0.15 * letters, told | {"ctc": letters.detach()}

    def look(step: int) -> None:
        store.log("settle-test", step=step, **understood(model, "unseen", lessons), **understood(model, "speaker", lessons))
        store.write(store.place("checkpoints", f"settle-{step}.pt"), lambda temporary: torch.save({"model": model.state_dict()}, temporary))

    run.go(loss_of, look=look, look_every=300)


def load(stage: str = "typed") -> Assistant:
    model = Assistant().to(device())
    model.load_state_dict(torch.load(store.place("checkpoints", f"{stage}.pt"), map_location=device(), weights_only=False)["model"])
    return model.eval()
