"""The lessons: one function a mode of the engine, each giving the script of one conversation.

Typed lessons need the question bank and the answers' codes alone; heard lessons take a recording by its number in a
data.Clips set and the rows the ear makes of it.
"""

import random
from functools import cached_property

from . import codec, data, questions, tokens
from .examples import CLOSE, N_TEXT, OPEN, Script

TOOL_REPLIES = ["<|tool_response_start|>ok<|tool_response_end|>", "ok", '{{"minutes": {minutes}}}', '<|tool_response_start|>{{"status": "ok"}}<|tool_response_end|>']
WEIGHT = {"outside": 14.0, "timer": 2.0, "spell": 1.5, "count": 2.0}


def rows_of(frames: int) -> int:
    return -(-frames // 8)


class Lessons:
    def __init__(self):
        self.codes = codec.load_codes()
        self.instances = questions.instances()
        self.text = {instance.answer: tokens.encode(instance.answer) for instance in self.instances}
        self.weights = [WEIGHT.get(i.kind, 2.0 if len(questions.kinds()[i.kind].instances) == 1 else 1.0) for i in self.instances]

    @cached_property
    def followed(self) -> list[int]:
        return [number for number, i in enumerate(self.instances) if questions.kinds()[i.kind].follow]

    def pick(self, rng: random.Random) -> int:
        return rng.choices(range(len(self.instances)), self.weights)[0]

    def typed(self, form: str, number: int, rng: random.Random) -> list[int]:
        """A question as people type it: with or without capitals and marks, some words as bytes."""
        slots = dict(self.instances[number].slots)
        text = questions.ask(form, self.instances[number]) if rng.random() < 0.5 else questions.fill(form, slots)
        text = data.dress(text, rng)
        if rng.random() < 0.5:
            text = questions.capital(text)
        if rng.random() < 0.5:
            text += rng.choice(["?", "?", ".", "!"])
        return tokens.scattered(text, 0.03, rng)

    def form(self, number: int, rng: random.Random, split: str = "forms") -> str:
        kind = questions.kinds()[self.instances[number].kind]
        return rng.choice(kind.forms + kind.more if split == "forms" else getattr(kind, split))

    def reply(self, script: Script, number: int, rng: random.Random, short: bool = False, tool_ends: bool = False) -> Script:
        """The assistant's turn from its header on. A tool's call is a turn of its own; the sound comes after its answer."""
        instance = self.instances[number]
        script.words(OPEN["assistant"])
        if instance.tool_call:
            script.words([tokens.CALL_START, *tokens.encode(instance.tool_call), tokens.CALL_END, tokens.IM_END], said=True)
            if short or tool_ends:
                return script
            minutes = dict(instance.slots)["minutes"]
            script.end().words([*OPEN["tool"], *tokens.encode(rng.choice(TOOL_REPLIES).format(minutes=minutes)), *CLOSE]).words(OPEN["assistant"])
        return script.answer(self.text[instance.answer], self.codes[instance.answer], short)

    def first_words(self, number: int) -> list[int]:
        """What the first run of text of an answer should be."""
        instance = self.instances[number]
        if instance.tool_call:
            return [tokens.CALL_START, *tokens.encode(instance.tool_call), tokens.CALL_END, tokens.IM_END][:N_TEXT]
        return [*self.text[instance.answer], tokens.TEXT_END][:N_TEXT]

    def talk_typed(self, rng: random.Random, short: bool = False) -> Script:
        number = self.pick(rng)
        script = Script().begin(tokens.INTERLEAVED).words(OPEN["user"]).words(self.typed(self.form(number, rng), number, rng)).words(CLOSE)
        return self.reply(script, number, rng, short)

    def written_reply(self, script: Script, number: int, rng: random.Random, said: bool = True) -> Script:
        """The assistant's turn from its header on, in words alone; unless `said`, it is there to be read and not learnt."""
        instance = self.instances[number]
        script.words(OPEN["assistant"])
        if instance.tool_call:
            script.words([tokens.CALL_START, *tokens.encode(instance.tool_call), tokens.CALL_END, tokens.IM_END], said=said)
            script.end().words([*OPEN["tool"], *tokens.encode(rng.choice(TOOL_REPLIES).format(minutes=dict(instance.slots)["minutes"])), *CLOSE]).words(OPEN["assistant"])
        return script.words([*self.text[instance.answer], tokens.IM_END], said=said)

    def chat(self, rng: random.Random) -> Script:
        """Text in, text out, without a system prompt."""
        number = self.pick(rng)
        script = Script().begin(None).words(OPEN["user"]).words(self.typed(self.form(number, rng), number, rng)).words(CLOSE)
        return self.written_reply(script, number, rng)

    def say(self, rng: random.Random) -> Script:
        number = self.pick(rng)
        answer = self.instances[number].answer
        frames = self.codes[answer]
        script = Script().begin(tokens.TTS).words(OPEN["user"]).words(tokens.scattered(answer, 0.02, rng)).words(CLOSE).words(OPEN["assistant"])
        return script.words([tokens.AUDIO_START], said=True).sound(frames).sound([frames[0] * 0 + codec.SIZE]).words([tokens.IM_END], said=True)

    def pair(self, rng: random.Random, after: int | None = None) -> tuple[int, int, int] | None:
        """(question before, the follow-up's own instance, what it means)."""
        if after is None:
            after = rng.choice(self.followed)
        kind = self.instances[after].kind
        before = rng.choice([n for n in self.followed if self.instances[n].kind == kind])
        meant = questions.chain(self.instances[before], self.instances[after])
        return None if meant is None else (before, after, self.instances.index(meant))

    def followup_typed(self, rng: random.Random, short: bool = False) -> Script:
        while not (found := self.pair(rng)):
            pass
        before, after, meant = found
        script = Script().begin(tokens.INTERLEAVED).words(OPEN["user"]).words(self.typed(self.form(before, rng), before, rng)).words(CLOSE)
        self.reply(script, before, rng).end()
        script.words(OPEN["user"]).words(self.typed(self.form(after, rng, "follow"), after, rng)).words(CLOSE)
        return self.reply(script, meant, rng, short)

    def talk_heard(self, clip: int, row: dict, rng: random.Random, short: bool = False) -> Script:
        script = Script().begin(tokens.INTERLEAVED).words(OPEN["user"]).hear(clip, rows_of(row["frames"])).words(CLOSE)
        return self.reply(script, row["instance"], rng, short)

    def followup_heard(self, clip: int, row: dict, rng: random.Random, short: bool = False) -> Script | None:
        """The turn before is typed: its sound costs as much and teaches nothing here."""
        found = self.pair(rng, row["instance"])
        if not found:
            return None
        before, _, meant = found
        script = Script().begin(tokens.INTERLEAVED).words(OPEN["user"]).words(self.typed(self.form(before, rng), before, rng)).words(CLOSE)
        self.reply(script, before, rng).end()
        script.words(OPEN["user"]).hear(clip, rows_of(row["frames"])).words(CLOSE)
        return self.reply(script, meant, rng, short)

    def write_down(self, clip: int, row: dict) -> Script:
        script = Script().begin(tokens.ASR).words(OPEN["user"]).hear(clip, rows_of(row["frames"])).words(CLOSE).words(OPEN["assistant"])
        return script.words([*tokens.encode(row["text"]), tokens.IM_END], said=True)
