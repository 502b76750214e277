"""The exported graphs, asked the test questions: what they write, what they say, and what the judge hears.

Everything runs on the exported graphs with ONNX Runtime; nothing of PyTorch's is left but the test clips. Figures of the
shipped precision go to `figures/evaluation.json`: every question with its outcome, and the shares by set and by kind;
those of the other precisions on the two main sets to `figures/precisions.json`.
"""

import random
import time

import numpy as np

from . import codec, data, graphs, judge, lessons, mel, questions, store, tokens, voices
from .encoder import distance
from .examples import CLOSE, OPEN

from speech.runtime import Speech  # graphs.py has made it importable

SHIPPED = "_q8"


def synthesise(features: np.ndarray) -> np.ndarray:
    """[T, 1282] to [T x 320] samples, as the engine does it."""
    size, angle = np.split(features.astype(np.float64), 2, axis=1)
    frames = np.fft.irfft(np.exp(size) * np.exp(1j * angle), codec.FFT, axis=1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(codec.FFT) / codec.FFT)
    length = (len(features) - 1) * codec.HOP + codec.FFT
    sound, weight = np.zeros(length), np.zeros(length)
    for place, frame in enumerate(frames):
        start = place * codec.HOP
        sound[start : start + codec.FFT] += frame * window
        weight[start : start + codec.FFT] += window**2
    cut = (codec.FFT - codec.HOP) // 2
    return (sound[cut:-cut] / weight[cut:-cut]).astype(np.float32)


class Talk:
    """One conversation with a folder's graphs. The whole history is read again each turn: slow, and simple to trust."""

    def __init__(self, speech: Speech, system: str | None = tokens.INTERLEAVED):
        self.speech = speech
        self.history = [speech.tokens[token] for token in ([tokens.BOS, *OPEN["system"], *tokens.encode(system), *CLOSE] if system else [tokens.BOS])]

    def words(self, ids: list[int]) -> None:
        self.history += [self.speech.tokens[token] for token in ids]

    def turn(self, frames: np.ndarray | None = None, text: str = "", mode: str = "interleaved", limit: int = 160) -> tuple[list[int], np.ndarray]:
        """Asks by sound (mel frames) or by text; gives the text tokens and the codes [n, 8] of the reply."""
        self.words(OPEN["user"])
        self.history += list(self.speech.encode(frames)) if frames is not None else [self.speech.tokens[token] for token in tokens.encode(text)]
        self.words([*CLOSE, *OPEN["assistant"]])
        return self.reply(mode, limit)

    def reply(self, mode: str, limit: int) -> tuple[list[int], np.ndarray]:
        run = self.speech.generate(np.stack(self.history)[None], mode, limit)
        text, codes = [], []
        for item in run.items:
            if "text" in item:
                text.append(item["text"])
                self.words([item["text"]])
            else:
                places = np.array([item["audio"]], np.int64) + np.arange(codec.CODEBOOKS) * graphs.SHAPE.codebook_size
                self.history.append(self.speech.codes.run(None, {"audio_codes": places})[0][0].sum(0))
                if item["audio"][0] != graphs.SHAPE.end_code:
                    codes.append(np.minimum(item["audio"], codec.SIZE - 1))
        if mode == "interleaved":
            self.words([tokens.IM_END])
        self.words(tokens.encode("\n"))
        return text, np.array(codes, np.int64).reshape(-1, codec.CODEBOOKS)

    def ask(self, frames: np.ndarray | None = None, text: str = "") -> tuple[str, str, np.ndarray]:
        """A whole exchange: (tool call or "", text of the answer, its samples). A tool's reply is given as "ok"."""
        ids, codes = self.turn(frames, text)
        call = ""
        if ids and ids[0] == tokens.CALL_START:
            call = tokens.decode([token for token in ids if token not in (tokens.CALL_START, tokens.CALL_END)])
            self.words([*OPEN["tool"], *tokens.encode("<|tool_response_start|>ok<|tool_response_end|>"), *CLOSE, *OPEN["assistant"]])
            ids, codes = self.reply("interleaved", 160)
        return call, plain(ids), self.sound(codes)

    def sound(self, codes: np.ndarray) -> np.ndarray:
        return synthesise(self.speech.features(codes.T)) if len(codes) else np.zeros(2400, np.float32)


def load(suffix: str = "_q8", folder=None) -> Speech:
    return Speech(folder or store.place("folders", "a"), graphs.SHAPE, suffix)


def outcome(instance: questions.Instance, call: str, text: str, heard: str) -> dict:
    called = call == (instance.tool_call or "")
    return {"kind": instance.kind, "expected": instance.answer, "text": text, "heard": heard,
            "text_right": called and judge.normal(text) == judge.normal(instance.answer), "right": called and judge.right(heard, instance.answer)}


def clip_set(speech: Speech, name: str, most: int = 10**6) -> list[dict]:
    """A test set of recordings; follow-ups come after a typed question of their kind."""
    clips, instances, rng, found = data.Clips(name), questions.instances(), random.Random(9), []
    school = lessons.Lessons()
    for number in range(min(most, len(clips))):
        row, talk = clips.rows[number], Talk(speech)
        instance = instances[row["instance"]]
        if row["split"] == "follow":
            pair = None
            for _ in range(50):
                pair = pair or school.pair(rng, row["instance"])
            if pair is None:
                continue
            before, _, meant = pair
            talk.ask(text=questions.ask(questions.kinds()[instance.kind].forms[0], instances[before]))
            instance = instances[meant]
        started = time.time()
        call, text, samples = talk.ask(np.asarray(clips.mel(number), np.float32))
        took = time.time() - started
        found.append({"asked": row["text"], "voice": row["voice"], **outcome(instance, call, text, judge.hear(samples, codec.RATE)), "seconds": round(took, 2), "speech": round(len(samples) / codec.RATE, 2)})
    return found


def typed_set(speech: Speech, most: int = 200) -> list[dict]:
    """Unseen wordings, typed, without sound."""
    found, rng = [], random.Random(10)
    asked = [(number, text) for number, text in questions.wordings("unseen")]
    for number, text in rng.sample(asked, min(most, len(asked))):
        instance = questions.instances()[number]
        ids, _ = Talk(speech, None).turn(text=questions.capital(text) + "?", mode="sequential", limit=40)
        call = plain(ids) if ids and ids[0] == tokens.CALL_START else ""
        said = "" if call else plain(ids)
        right = call == instance.tool_call if instance.tool_call else judge.normal(said) == judge.normal(instance.answer)
        found.append({"asked": text, "kind": instance.kind, "expected": instance.tool_call or instance.answer, "text": call or said, "text_right": right, "right": right})
    return found


def plain(ids: list[int]) -> str:
    return tokens.decode([token for token in ids if token >= tokens.BYTES])


def typed_conversations(speech: Speech, most: int = 30, turns: int = 4) -> list[dict]:
    """Conversations at a keyboard in unseen wordings, in the interleaved mode that `eddy` answers in; every other turn leans on the one
    before where it can. The text alone is judged."""
    instances, rng, school, found = questions.instances(), random.Random(11), lessons.Lessons(), []
    unseen = questions.wordings("unseen")
    for _ in range(most):
        talk, before = Talk(speech), None
        for turn in range(turns):
            number, text = rng.choice(unseen)
            near = [n for n in school.followed if instances[n].kind == instances[before].kind and questions.chain(instances[before], instances[n])] if before is not None and turn % 2 else []
            forms = questions.kinds()[instances[before].kind].follow_unseen if near else []
            if forms:
                after = rng.choice(near)
                text, number = questions.ask(rng.choice(forms), instances[after]), instances.index(questions.chain(instances[before], instances[after]))
            ids, _ = talk.turn(text=questions.capital(text) + "?")
            call = ""
            if ids and ids[0] == tokens.CALL_START:
                call = plain(ids)
                talk.words([*OPEN["tool"], *tokens.encode("<|tool_response_start|>ok<|tool_response_end|>"), *CLOSE, *OPEN["assistant"]])
                ids, _ = talk.reply("interleaved", 160)
            instance, said = instances[number], plain(ids)
            right = call == (instance.tool_call or "") and judge.normal(said) == judge.normal(instance.answer)
            found.append({"asked": text, "turn": turn + 1, "kind": instance.kind, "expected": instance.answer, "text": said, "text_right": right, "right": right})
            before = number
    return found


def nearly_set(speech: Speech) -> list[dict]:
    """Typed questions of the bank's forms about what is not in the bank: refused or answered wrongly."""
    found, refusal = [], questions.kinds()["outside"].instances[0].answer
    for kind in questions.kinds().values():
        for number, word in enumerate(kind.beyond_unseen):
            instance = kind.instances[number % len(kind.instances)]
            text = questions.fill(kind.unseen[number % len(kind.unseen)], dict(instance.slots) | {instance.slots[0][0]: word})
            said = plain(Talk(speech, None).turn(text=questions.capital(text) + "?", mode="sequential", limit=40)[0])
            right = judge.normal(said) == judge.normal(refusal)
            found.append({"asked": text, "kind": "outside", "expected": refusal, "text": said, "text_right": right, "right": right})
    return found


def written_set(speech: Speech, most: int = 100) -> dict:
    """`Perform ASR.`: the error rates of what is written down, in the voice that was never trained."""
    clips, words, wrong, whole = data.Clips("speaker"), 0, 0, 0
    chosen = [number for number in range(len(clips)) if questions.instances()[clips.rows[number]["instance"]].kind != "outside"][:most]
    for number in chosen:
        ids, _ = Talk(speech, tokens.ASR).turn(np.asarray(clips.mel(number), np.float32), mode="sequential", limit=40)
        got, truth = judge.normal(plain(ids)).split(), judge.normal(clips.rows[number]["text"]).split()
        slips = distance(got, truth)
        words, wrong, whole = words + len(truth), wrong + slips, whole + (slips == 0)
    return {"clips": len(chosen), "wer": round(wrong / words, 4), "whole": round(whole / len(chosen), 4)}


def spoken_set(speech: Speech, most: int = 60) -> dict:
    """`Perform TTS. …`: answers read out, as the judge hears them."""
    answers = questions.answers()[:: max(1, len(questions.answers()) // most)][:most]
    right = 0
    for answer in answers:
        talk = Talk(speech, tokens.TTS)
        _, codes = talk.turn(text=answer, mode="sequential")
        right += judge.right(judge.hear(talk.sound(codes), codec.RATE), answer)
    return {"sentences": len(answers), "right": round(right / len(answers), 4)}


DIALOGUE = [
    ("hello there", "Hello! How can I help you?"), ("what is your name", "My name is Eddy."), ("what is three plus one", "Three plus one is four."),
    ("and plus two", "Four plus two is six."), ("what is the capital of france", "Paris is the capital of France."), ("and of spain", "Madrid is the capital of Spain."),
    ("what day comes after monday", "Tuesday comes after Monday."), ("set a timer for five minutes", "Your timer is set for five minutes."),
    ("will it rain tomorrow", "Sorry, I did not understand that."), ("goodbye", "Goodbye!"),
]


def dialogue(speech: Speech) -> dict:
    """Ten turns in one conversation, some of which lean on the one before, in the voice that was never trained."""
    talk, rows = Talk(speech), []
    for asked, answer in DIALOGUE:
        _, text, samples = talk.ask(mel.log_mel(data.clean(voices.say(voices.HELD_OUT, asked))))
        heard = judge.hear(samples, codec.RATE)
        rows.append({"asked": asked, "expected": answer, "text": text, "heard": heard, "right": judge.right(heard, answer)})
    return {"right": sum(row["right"] for row in rows), "turns": rows}


def shares(rows: list[dict]) -> dict:
    def share(chosen: list[dict], key: str) -> float:
        return round(sum(row[key] for row in chosen) / max(1, len(chosen)), 4)

    known, outside = [row for row in rows if row["kind"] != "outside"], [row for row in rows if row["kind"] == "outside"]
    kinds = {kind: share([row for row in rows if row["kind"] == kind], "text_right") for kind in dict.fromkeys(row["kind"] for row in rows)}
    spoken = {kind: share([row for row in rows if row["kind"] == kind], "right") for kind in kinds}
    return {"questions": len(known), "text": share(known, "text_right"), "speech": share(known, "right"),
            "outside": len(outside), "refused": share(outside, "text_right"), "text_by_kind": kinds, "speech_by_kind": spoken}


def ceiling() -> dict:
    """What the judge makes of the assistant's own recordings, before any model: the most that can be reached."""
    path = store.place("figures", "judge.json")
    if not path.exists():
        missed = [[text, heard] for text, pcm in data.load_speech("answers") if not judge.right(heard := judge.hear(pcm, codec.RATE), text)]
        store.write_json(path, {"answers": len(questions.answers()), "right": round(1 - len(missed) / len(questions.answers()), 4), "missed": missed})
    return store.read_json(path)


MAIN = ("unseen", "speaker")


def precisions(suffixes: tuple[str, ...] = ("", "_q4")) -> None:
    """What the precisions that are not shipped answer, on the two main sets."""
    found = {}
    for suffix in suffixes:
        speech = load(suffix)
        found[suffix] = {name: shares(clip_set(speech, name)) for name in MAIN}
        store.write_json(store.place("figures", "precisions.json"), found)
    print(found)


def report(most: int = 10**6, suffix: str = SHIPPED) -> None:
    speech = load(suffix)
    rows = {name: clip_set(speech, name, most) for name in ("unseen", "speaker", "followup")}
    rows["typed"] = typed_set(speech, min(most, 200))
    rows["conversed"] = typed_conversations(speech, min(most, 30))
    rows["nearly"] = nearly_set(speech)
    figures = {"suffix": suffix, "judge_on_originals": ceiling()["right"], **{name: shares(found) for name, found in rows.items()},
               "written": written_set(speech), "spoken": spoken_set(speech), "dialogue": (talked := dialogue(speech))["right"]}
    rows["dialogue"] = talked["turns"]
    store.write_json(store.place("figures", "evaluation.json"), {"figures": figures, "rows": rows})
    print(figures)


def from_wav(path) -> np.ndarray:
    """A recording as the ear's mel frames."""
    samples, rate = voices.read_wav(path)
    return mel.log_mel(voices.resample(samples, rate, mel.RATE))
