"""The last stage, `typed`: conversations at a keyboard, of one to five turns, with sound and without.

It goes on from `settle`, which heard whole conversations and read single questions. More than half of its steps are
`settle`'s own, so that nothing heard is forgotten. Questions that nearly belong to the bank, such as the capital of a country that is not
in it, are refused here: a keyboard can spell any word, and the ear's recordings cannot.
"""

import random

from . import joint, questions, store, tokens
from .assistant import Assistant
from .examples import CLOSE, OPEN, Script, pack
from .joint import LONG_FRAMES, SHORT_FRAMES, SPOIL, TALK_FRAMES, Talks, heard_batch, talk_batch, understood
from .lessons import Lessons
from .train import Run, device, prepare, world

STEPS, PEAK = 1400, 4e-4
# Conversations of a step with sound, without, and sentences that are read aloud.
SPOKEN, WRITTEN, READ = 6, 12, 8
MOST_TURNS, LEANING = 5, 0.45
# Shares of the questions that are outside the bank, and of those that only just are.
OUTSIDE, NEARLY = 0.12, 0.12
# Earlier answers of which the model reads the words alone: a conversation that was taken up again.
TAKEN_UP = 0.2


def nearly(rng: random.Random, split: str = "beyond") -> str:
    """A question of the bank about something that is not in the bank."""
    kind = rng.choice([kind for kind in questions.kinds().values() if getattr(kind, split)])
    instance = rng.choice(kind.instances)
    slot = instance.slots[0][0]
    form = rng.choice((kind.forms + kind.more) if split == "beyond" else kind.unseen)
    return questions.fill(form, dict(instance.slots) | {slot: rng.choice(getattr(kind, split))})


class Typing:
    """Draws typed turns: (what is typed, the instance whose answer is right)."""

    def __init__(self, lessons: Lessons):
        self.lessons = lessons
        self.outside = next(number for number, instance in enumerate(lessons.instances) if instance.kind == "outside")

    def turn(self, before: int | None, rng: random.Random) -> tuple[list[int], int]:
        lessons = self.lessons
        if before is not None and rng.random() < LEANING:
            near = [n for n in lessons.followed if lessons.instances[n].kind == lessons.instances[before].kind]
            after = rng.choice(near) if near else None
            meant = questions.chain(lessons.instances[before], lessons.instances[after]) if near else None
            if meant is not None:
                return lessons.typed(lessons.form(after, rng, "follow"), after, rng), lessons.instances.index(meant)
        draw = rng.random()
        if draw < NEARLY:
            return lessons.typed(nearly(rng), self.outside, rng), self.outside
        number = self.outside if draw < NEARLY + OUTSIDE else lessons.pick(rng)
        return lessons.typed(lessons.form(number, rng), number, rng), number

    def conversation(self, rng: random.Random, sound: bool) -> Script:
        script, before = Script().begin(tokens.INTERLEAVED if sound else None), None
        turns = rng.randint(1, MOST_TURNS)
        for place in range(turns):
            typed, meant = self.turn(before, rng)
            script.words(OPEN["user"]).words(typed).words(CLOSE)
            taken_up = place + 1 < turns and rng.random() < TAKEN_UP
            if sound and not taken_up:
                self.lessons.reply(script, meant, rng)
            else:
                self.lessons.written_reply(script, meant, rng, said=not sound)
            script.end()
            before = meant
        return script


def train() -> None:
    prepare(8)
    model = Assistant().to(device())
    if not store.place("checkpoints", "typed.pt").exists():
        model.load_state_dict(joint.load("settle").state_dict())
    model.ear.half_head.requires_grad_(False)
    run = Run("typed", model, STEPS, PEAK, 60, seed=8, rates={"ear": 0.5, "depth": 0.7})
    talks, lessons = Talks(), Lessons()
    typing = Typing(lessons)

    def loss_of(step: int, rng: random.Random):
        draw = random.Random(f"typed/{step}").random()  # the same for all processes, so that none waits
        if draw < 0.42:
            name, make, count = ("spoken", lambda: typing.conversation(rng, True), SPOKEN) if draw < 0.26 else ("written", lambda: typing.conversation(rng, False), WRITTEN) if draw < 0.36 else ("read", lambda: lessons.say(rng), READ)
            text, audio, figures = model.losses(pack([make() for _ in range(max(1, count // world()))], device(), rng, SPOIL))
            return text + 2 * audio, {f"{name}_{key}": value for key, value in figures.items() if key in ("text", "text_right", "codes_right")}
        if draw < 0.68:
            name = "talk"
            batch, heard, letters = talk_batch(model, talks, lessons, TALK_FRAMES // world(), rng, True)
        elif draw < 0.73:
            name = "write"
            batch, heard, letters = heard_batch(model, talks, lessons, talks.all, lambda clip, row: lessons.write_down(clip, row), SHORT_FRAMES // world(), rng)
        elif draw < 0.83:
            name = "follow"
            batch, heard, letters = heard_batch(model, talks, lessons, talks.leaning, lambda clip, row: lessons.followup_heard(clip, row, rng, short=True), LONG_FRAMES // world(), rng)
        else:
            name = "short"
            batch, heard, letters = heard_batch(model, talks, lessons, talks.asked, lambda clip, row: lessons.talk_heard(clip, row, rng, short=True), SHORT_FRAMES // world(), rng)
        text, audio, figures = model.losses(batch, heard)
        told = {f"{name}_{key}": value for key, value in figures.items() if key in ("text", "text_right", "codes_right")}
        return text + 2 * audio + 0.15 * letters, told | {"ctc": letters.detach()}

    def look(step: int) -> None:
        store.log("typed-test", step=step, **understood(model, "unseen", lessons), **understood(model, "speaker", lessons))

    run.go(loss_of, look=look, look_every=250)
