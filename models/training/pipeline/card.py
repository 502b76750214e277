"""The model card, written from the figures: what the model can and cannot do, from what and how it was made."""

import json

from . import assistant, codec, encoder, joint, questions, store, tokens, typed
from .voices import HELD_OUT

def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def last(curve: str) -> dict:
    path = store.place("curves", f"{curve}.jsonl")
    return json.loads(path.read_text().splitlines()[-1]) if path.exists() else {}


def kinds_table(figures: dict) -> list[str]:
    lines = ["| kind | answers | for example | text, unseen wordings | speech | text, unseen voice | speech |", "|---|---|---|---|---|---|---|"]
    for kind in questions.kinds().values():
        example = questions.ask(kind.forms[0], kind.instances[0])
        shares = [figures[name][what].get(kind.name) for name in ("unseen", "speaker") for what in ("text_by_kind", "speech_by_kind")]
        lines.append(f"| {kind.name} | {len(kind.instances)} | {example} | " + " | ".join("not asked" if share is None else percent(share) for share in shares) + " |")
    return lines


def text() -> str:
    figures = store.read_json(store.place("figures", "evaluation.json"))["figures"]
    spoken = store.read_json(store.place("figures", "codec.json"))
    sizes = store.read_json(store.place("figures", "sizes.json"))["total"]
    judge = store.read_json(store.place("figures", "judge.json"))
    precisions = store.read_json(store.place("figures", "precisions.json")) | {figures["suffix"]: figures}
    merged = store.read_json(store.place("figures", "merge.json"))
    stages = {name: last(name) for name in ("codec", "polish", "encoder", "tongue", "joint", "settle", "typed")}
    names = {"unseen": "unseen wordings, trained voices", "speaker": f"unseen wordings, a voice that was never trained ({HELD_OUT})", "followup": "follow-ups in that voice, trained wordings, the turn before typed", "typed": "unseen wordings, typed",
             "conversed": "questions in typed conversations of four turns"}
    lines = [
        "---",
        "license: MIT OR Apache-2.0",
        "language: en",
        "voice: us-male",
        f"limits: \"{limits(figures)}\"",
        "---",
        "",
        "# eddy-small",
        "",
        f"A small speech model of LFM2-Audio's architecture: {len(questions.answers())} answers of {len(questions.kinds())} kinds, in one voice. It is there so that Eddy can be",
        "heard, and tested end to end, on a machine that has nothing else; the real LFM2.5-Audio takes its place as soon as it is there.",
        "",
        "It knows what `models/training/questions.toml` lists, and nothing more. It does not reason: sums, capitals and months are learnt by heart. It was",
        "trained on synthetic voices alone, so a person's voice may be misheard, and it then answers another question than was asked. What it takes",
        "for none of its questions it says it did not understand. Left out, since the judge does not recognise them even in the voice's own recordings:",
        "the sounds of animals, and the legs of the cat, the ant and the bee. Writing down (`Perform ASR.`) and reading aloud (`Perform TTS.`) are weak.",
        "",
        "## What it does",
        "",
        "| questions | asked | text right | heard right by the judge | outside questions refused |",
        "|---|---|---|---|---|",
        *(f"| {label} | {figures[name]['questions']} | {percent(figures[name]['text'])} | {percent(figures[name]['speech']) if name not in ('typed', 'conversed') else 'not judged'} | "
          + (f"{percent(figures[name]['refused'])} of {figures[name]['outside']}" if figures[name]["outside"] else "not asked") + " |" for name, label in names.items()),
        "",
        f"Asked at a keyboard about what its questions nearly cover (\"the capital of Mongolia\"), it refuses {percent(figures['nearly']['refused'])} of {figures['nearly']['outside']}; the others it answers as",
        "something that it knows, wrongly and without doubt. Spoken ones it was not taught to refuse.",
        "",
        f"`Perform ASR.` in the unseen voice: word error rate {percent(figures['written']['wer'])}, {percent(figures['written']['whole'])} of {figures['written']['clips']} questions whole. `Perform TTS.`: {percent(figures['spoken']['right'])} of",
        f"{figures['spoken']['sentences']} sentences heard right. A dialogue of ten turns in the unseen voice: {figures['dialogue']} right.",
        "",
        "| precision | text, unseen wordings | speech | text, unseen voice | speech |",
        "|---|---|---|---|---|",
        *(f"| {name.strip('_') or 'fp32'} | " + " | ".join(percent(held[test][key]) for test in ("unseen", "speaker") for key in ("text", "speech")) + " |" for name, held in sorted(precisions.items(), reverse=True)),
        "",
        "int8 is shipped.",
        "",
        f"Measured with the {figures['suffix'].strip('_')} graphs on ONNX Runtime. The judge, Whisper tiny.en, hears {percent(judge['right'])} of the voice's own recordings right, before any model.",
        "The unseen wordings are not trained on; the wordings of the follow-ups and of the dialogue are, in other voices. Nor are they unknown: further training wordings and voices were made, and answers reworded, after a",
        "first evaluation on the same test wordings had shown which kinds failed, and the stages' lengths were set with their figures in view.",
        "On two cores of an AMD EPYC an answer takes 0.02 to 0.07 of the time that it sounds, and its first sample is there 11 to 50 ms after the question.",
        "",
        *kinds_table(figures),
        "",
        "Modes: `Respond with interleaved text and audio.` (spoken or typed questions, follow-ups), `Perform ASR.`, `Perform TTS. Use the US male voice.`",
        "(the answers' own sentences), typed chat without a system prompt. The tool `set_timer(minutes=N)` is called through tokens 10 and 11 in a turn",
        "of its own; the spoken answer follows a turn of the role `tool`. Decode greedily: each answer is one sequence of codes, and sampling only adds slips.",
        "",
        "## Shape",
        "",
        f"Ear: 128 mel bands, 8x subsampling, {encoder.LAYERS} conformer-like blocks of {encoder.WIDTH}. Backbone: LFM2, {assistant.WIDTH} wide, layers `{assistant.PLAN}`. Depthformer: {assistant.DEPTH_LAYERS} layers of {assistant.DEPTH}.",
        f"Codec: {codec.CODEBOOKS} codebooks of {codec.SIZE} and an end code (257, not 2049), 12.5 frames a second; detokenizer {codec.WIDTH} wide, layers `{codec.PLAN}`. {tokens.ROWS} text tokens, whole words.",
        f"Graphs: {sizes['_q8'] / 1e6:.1f} MB in int8 (shipped), {sizes['_q4'] / 1e6:.1f} MB in int4, {sizes['fp32'] / 1e6:.1f} MB in fp32.",
        "",
        "## How it was made",
        "",
        "`python -m pipeline` in `models/training` (its README has the details). Seeds are in the code: data 20260, codec 1, ear 2, backbone 3, joint 4,",
        "polish 5, settle 6, typed 8.",
        "",
        "These weights were made by that recipe with these differences: the stages up to `joint` were run when questions.toml had 14 answers more (sounds",
        "of animals, three of the legs) and other sentences for colours, units and spelling (commit 06a0424). `settle` moved the text table's rows to their",
        "words and learnt the new sentences. A run from nothing has them from the start. Lengths, which set the rates too, were changed while stages ran: `tongue` from 2600 steps to 1800 (by",
        "step 150) and 1600 (by step 1300), `settle` from 4800 to 2800, 2300, 2500 and 2434 (by steps 500, 800, 1750 and the last), `polish` was run to 1500 and",
        f"then on to 3000. `settle`'s last part was drawn as the code says from step {joint.SPEECH_FROM} on; outside questions weighed more than small talk from step 1707 on alone.",
        "`typed` cost spoken follow-ups: 88 % were heard right before it, 82 % after a first run of 1000 steps without any, 83 % after the shipped one. That one",
        "refuses 66.7 % of the nearly known, the first 81.5 %; of typed outside questions 100 % for 94.1 % (64.7 % before), and reads 70 % aloud for 68.3 % (58.3 %).",
        "",
        "| stage | steps | minutes (of processes of lowest priority on two shared cores) | end of the curve |",
        "|---|---|---|---|",
        *(f"| {name} | {held.get('step')} of {held.get('of')} | {held.get('minutes')} | " + ", ".join(f"{key} {value}" for key, value in held.items() if key not in ("time", "step", "of", "minutes", "clips")) + " |" for name, held in stages.items()),
        "",
        "The codec's cost, word error rate of the judge: " + "; ".join(f"{name} {percent(held['original']['wer'])} before, {percent(held['8 codebooks']['wer'])} after" for name, held in spoken.items()) + ".",
        "",
        "Of the report's recipe: distillation (`distill.py`) and ordering by an ensemble's success (`curriculum.py`)",
        "were tried on short continuations (`trial.py`; figures in models/training/README.md): the teacher was an ensemble of the model's own later",
        "snapshots, no larger network, and what either did is within a few of the test questions. Neither is kept. Merging (`merge.py`) was tried on the last snapshots of `settle`, and not",
        "kept, since it gains nothing that these test sets could show (share of answers that begin right, fp32, before export):",
        "",
        "| weights | unseen wordings | outside | unseen voice | outside |",
        "|---|---|---|---|---|",
        *(f"| {name} | " + " | ".join(percent(held[key]) for key in ("unseen_known", "unseen_outside", "speaker_known", "speaker_outside")) + " |" for name, held in merged.items()),
        "",
        "## Sources and licences",
        "",
        "| what | from | licence |",
        "|---|---|---|",
        "| the assistant's voice | Piper `en_US-joe-medium` | CC0 |",
        "| people's voices | espeak-ng (the program is GPL-3.0-or-later; what it says is not), flite voices kal, kal16, awb, slt (CMU, free to use and pass on) and, for tests, rms | as said |",
        "| questions, sentences | written for this project | as the project |",
        "| Harvard sentences (test only) | IEEE 297-1969 | freely used |",
        "| judge (not shipped) | Whisper tiny.en | MIT |",
        "",
        "Asterisk's recorded prompts are CC-BY-SA 3.0: nothing of them was trained on, so the weights carry the project's licence alone.",
        "",
        f"Training settings: codec {codec.STEPS} steps of {codec.BATCH} x {codec.SEGMENT * 0.08:.2f} s; ear {encoder.STEPS} of {encoder.FRAMES / 100:.0f} s of speech; backbone {joint.TONGUE_STEPS} of {joint.TONGUE_BATCH} conversations; joint {joint.JOINT_STEPS}; settle {joint.SETTLE_STEPS}; typed {typed.STEPS}; polish {codec.POLISH_STEPS}.",
    ]
    return "\n".join(lines) + "\n"


def limits(figures: dict) -> str:
    kinds = ", ".join(name for name in ("sums to 18", "counting to ten", "days", "months", "26 capitals", "opposites", "colours", "legs", "spelling", "units", "timers"))
    return (f"English only; small talk, {kinds}, {len(questions.answers())} answers learnt by heart; says so when it does not understand; weak at dictation and reading aloud. Trained on synthetic voices alone: "
            f"{percent(figures['speaker']['speech'])} of known questions answered right aloud in a voice it never heard, real voices untested.")


def write() -> None:
    store.write(store.place("card.md"), lambda temporary: temporary.write_text(text()))
