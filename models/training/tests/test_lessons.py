"""Questions, tokens, schedule, judge: the rules that the data keep."""

import random

import numpy as np
import pytest
import torch

from pipeline import encoder, joint, judge, questions, store, tokens, typed
from pipeline.examples import N_AUDIO, N_TEXT, Script
from pipeline.sentences import HARVARD, generic


def test_every_wording_is_trained_or_tested_but_not_both():
    for kind in questions.kinds().values():
        assert not set(kind.forms + kind.more + kind.later) & set(kind.unseen), kind.name
        assert not set(kind.follow) & set(kind.follow_unseen), kind.name


def test_no_question_has_two_answers():
    asked = {}
    for split in ("forms", "more", "later", "unseen"):
        for number, text in questions.wordings(split):
            answer = questions.instances()[number].answer
            assert asked.setdefault(text, answer) == answer, text


def test_slots_are_filled_with_and_without_capitals():
    assert questions.fill("{A} plus {b}", {"a": "one", "b": "two"}) == "One plus two"


def test_a_sum_goes_on_from_its_result():
    sums = {i.answer: i for i in questions.kinds()["addition"].instances}
    meant = questions.chain(sums["Three plus one is four."], sums["Nine plus two is eleven."])
    assert meant == sums["Four plus two is six."]
    assert questions.chain(sums["Nine plus nine is eighteen."], sums["One plus two is three."]) is None


@pytest.mark.parametrize("text", ["Seven plus two is nine.", "<|im_start|>user\nwhat is seven", "Zürich, 17 xylophones!\n", tokens.INTERLEAVED, "a  b"])
def test_text_survives_its_tokens(text):
    assert tokens.decode(tokens.encode(text)) == text


def test_words_and_prompts_are_one_token():
    assert len(tokens.encode("Seven plus two is nine.")) == 6
    assert len(tokens.encode(tokens.INTERLEAVED)) == 1
    assert len(tokens.encode("[set_timer(minutes=5)]")) == 3


def test_scattered_words_read_the_same():
    ids = tokens.scattered("what is seven plus two", 0.5, random.Random(3))
    assert len(ids) > 5 and tokens.decode(ids) == "what is seven plus two"


@pytest.mark.parametrize(("words", "frames"), [(3, 9), (5, 30), (6, 30), (14, 60), (20, 70)])
def test_the_schedule_is_that_of_the_published_loop(words, frames):
    script = Script().answer(list(range(600, 600 + words)), np.ones((frames, 8), np.int64))
    items = list(zip(script.kind, script.text, [code[0] for code in script.codes], strict=True))
    # The loop of liquid-audio's generate_interleaved, told what to say.
    speaking, done, left, place = False, False, N_TEXT, 0
    while True:
        kind, token, code = items[place]
        left -= 1
        if not speaking:
            assert kind == 0
            if token == tokens.IM_END:
                break
            done = done or token == tokens.TEXT_END
            if not left or done:
                speaking, left = True, N_AUDIO
        else:
            assert kind == 2
            if not left and not done:
                speaking, left = False, N_TEXT
            if code == 256:
                speaking = False
        place += 1
    assert place == len(items) - 1 and all(script.said)


def test_sound_that_ends_before_its_text_is_refused():
    with pytest.raises(ValueError):
        Script().answer(list(range(600, 620)), np.ones((5, 8), np.int64))


def test_the_judge_folds_numbers_and_spelling():
    assert judge.normal("7 + 2 is 9.") == judge.normal("Seven plus two is nine.")
    assert judge.normal("365 days, 1,000 m") == "three hundred sixty five days one thousand m"


def test_generic_sentences_are_their_seeds():
    assert generic(50, 1) == generic(50, 1) != generic(50, 2)
    assert len(HARVARD) == 20


def test_small_talk_and_new_voices_are_drawn_more_often():
    clips = type("Clips", (list,), {"rows": [{"frames": 100}, {"frames": 200}]})([0, 0])
    assert encoder.Batches(clips, often={1: 3}).order == [0, 1, 1, 1]


def test_rows_follow_their_words(tmp_path, monkeypatch):
    monkeypatch.setenv("EDDY_TRAINING_CACHE", str(tmp_path))
    now = tokens.tokenizer().get_vocab()
    before = {word: now["hello"] if word == "what" else now["what"] if word == "hello" else row for word, row in now.items() if word != "There"}
    table = torch.arange(tokens.ROWS, dtype=torch.float32)[:, None].repeat(1, 2)
    store.write_json(store.place("checkpoints", "joint-words.json"), before)
    torch.save({"model": {"lfm.embed_tokens.weight": table}}, store.place("checkpoints", "joint.pt"))
    moved = joint.settled_from()["lfm.embed_tokens.weight"][:, 0]
    assert moved[now["what"]] == before["what"] and moved[now["hello"]] == before["hello"] and moved[now["Ġthe"]] == now["Ġthe"]
    # A word that had no row begins as the same word in other letters.
    assert moved[now["There"]] == before["Ġthere"]


def test_what_the_bank_nearly_covers_is_not_in_it():
    for kind in questions.kinds().values():
        known = {instance.slots[0][1].lower() for instance in kind.instances if instance.slots}
        assert not known & {word.lower() for word in kind.beyond + kind.beyond_unseen}, kind.name
        assert not set(kind.beyond) & set(kind.beyond_unseen), kind.name
    bank = {text for split in ("forms", "more", "unseen") for _, text in questions.wordings(split)}
    rng = random.Random(4)
    assert all(typed.nearly(rng).lower() not in bank for _ in range(300))


def test_typed_turns_lean_only_on_what_can_be_leant_on():
    class Bank:
        instances = questions.instances()
        followed = [number for number, i in enumerate(instances) if questions.kinds()[i.kind].follow]

        def pick(self, rng):
            return rng.randrange(len(self.instances))

        def form(self, number, rng, split="forms"):
            return split

        def typed(self, form, number, rng):
            return form, number

    typing, rng, leant = typed.Typing(Bank()), random.Random(5), 0
    for _ in range(500):
        before = rng.randrange(len(Bank.instances))
        (form, number), meant = typing.turn(before, rng)
        if form == "follow":
            leant += 1
            assert Bank.instances[meant] == questions.chain(Bank.instances[before], Bank.instances[number])
        elif form == "forms":
            assert meant == number
        else:
            assert meant == typing.outside
    assert 50 < leant < 300
