"""The recorded questions that come with the model: wordings that were not trained, in a voice that was not trained.

`python -m pipeline.demo` writes them to models/embedded/questions: 16 kHz mono 16-bit, with `questions.json` saying what
is asked and what the answer is. flite's voice `rms` is free to use and to pass on (its licence is in the model card).
"""

import numpy as np

from . import data, store, voices

ASKED = [
    ("sum", "tell me the sum of five and three", "Five plus three is eight.", ""),
    ("capital", "can you tell me the capital of japan", "Tokyo is the capital of Japan.", ""),
    ("day", "which day is after monday", "Tuesday comes after Monday.", ""),
    ("sum-more", "and now plus two", "Eight plus two is ten.", "sum"),
    ("timer", "can you start a timer for ten minutes", "Your timer is set for ten minutes.", ""),
    ("outside", "who discovered america", "Sorry, I did not understand that.", ""),
]


def write(target=store.SOURCE.parent / "embedded" / "questions") -> None:
    target.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, text, answer, after in ASKED:
        samples = data.clean(voices.say(voices.HELD_OUT, text))
        voices.write_wav(target / f"{name}.wav", np.clip(samples, -1, 1), 16000)
        rows.append({"file": f"{name}.wav", "asked": text, "answer": answer, "voice": voices.HELD_OUT, "demo": name in ("sum", "capital", "day"), **({"after": f"{after}.wav"} if after else {})})
    store.write_json(target / "questions.json", rows)


if __name__ == "__main__":
    write()
