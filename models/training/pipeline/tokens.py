"""The text tokens: LFM2's special ids, every byte, and every word of the question bank as one token.

Words are whole so that the text of an answer stays ahead of its sound in the schedule of 6 text tokens and 12 audio
frames. The system prompts that the engine sends are one token each, which keeps prompts short. Words of the evaluation's
own wordings get no token: a model sees them as bytes, as it will see any word it was not made for.
"""

import json
import re
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from . import questions

BOS, EOS_TEXT, IM_START, IM_END, CALL_START, CALL_END = 1, 2, 6, 7, 10, 11
AUDIO_START, TEXT_START, TEXT_END, AUDIO_IN = 128, 129, 130, 133
ROWS, BYTES, WORDS = 1536, 256, 512
INTERLEAVED, ASR, TTS = "Respond with interleaved text and audio.", "Perform ASR.", "Perform TTS. Use the US male voice."
CALL_OPEN, CALL_CLOSE = "[set_timer(minutes=", ")]"
SPLIT = r" ?[A-Za-z]+| ?[0-9]+|\n| ?[^\sA-Za-z0-9]|\s"
SPECIAL = {0: "<|pad|>", 1: "<|startoftext|>", 2: "<|endoftext|>", 3: "<|fim_pre|>", 4: "<|fim_mid|>", 5: "<|fim_suf|>", 6: "<|im_start|>", 7: "<|im_end|>",
           8: "<|tool_list_start|>", 9: "<|tool_list_end|>", 10: "<|tool_call_start|>", 11: "<|tool_call_end|>", 12: "<|tool_response_start|>", 13: "<|tool_response_end|>",
           128: "<|audio_start|>", 129: "<|text_start|>", 130: "<|text_end|>", 131: "<|mixed_start|>", 132: "<|mixed_end|>", 133: "<|reserved_123|>"}
PROMPT_WORDS = ["system", "user", "assistant", "tool", "Respond", " with", " interleaved", " text", " and", " audio", "Perform", " ASR", " TTS", " Use", " the", " US", " UK",
                " male", " female", " voice", "\n", ".", ",", "?", "!", ":", "-", "'", " ", "ok", " Eddy", "Eddy"]


def alphabet() -> list[str]:
    """The 256 characters that stand for bytes in byte-level tokenizers, by byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(spare)) for byte in range(256)]


def spelled(text: str) -> str:
    table = alphabet()
    return "".join(table[byte] for byte in text.encode())


@cache
def words() -> list[str]:
    asked = [text for split in ("forms", "follow") for _, text in questions.wordings(split)]
    asked += questions.source()["openers"] + questions.source()["closers"]
    lower = dict.fromkeys(re.findall(r"[a-z]+", " ".join(asked + [answer.lower() for answer in questions.answers()])))
    found = dict.fromkeys(PROMPT_WORDS)
    for word in lower:
        found[" " + word] = None
    for text in asked:
        first = text.split()[0]
        found[first] = found[questions.capital(first)] = None
    for answer in questions.answers():
        for piece in re.findall(SPLIT, answer):
            found[piece] = None
    for number in dict.fromkeys(dict(i.slots)["minutes"] for i in questions.kinds()["timer"].instances):
        found[number] = None
    return list(found)


@cache
def tokenizer() -> Tokenizer:
    vocabulary = {text: number for number, text in SPECIAL.items()}
    for number in range(WORDS):
        if number < 134 and number not in SPECIAL:
            vocabulary[f"<|reserved_{number - 10}|>" if number >= 128 else f"<|unused_{number}|>"] = number
    for byte, character in enumerate(alphabet()):
        vocabulary[character] = BYTES + byte
    free = WORDS
    for word in words():
        text = spelled(word)
        if text not in vocabulary:
            vocabulary[text] = free
            free += 1
    whole = [INTERLEAVED, ASR, TTS, CALL_OPEN, CALL_CLOSE]
    for text in whole:
        vocabulary[text] = free
        free += 1
    if free > ROWS:
        raise ValueError(f"{free} tokens do not fit {ROWS} rows")
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for _, text in sorted(SPECIAL.items())])
    made.add_tokens([AddedToken(text, normalized=False) for text in whole])
    made.post_processor = processors.TemplateProcessing(single=f"{SPECIAL[BOS]} $A", special_tokens=[(SPECIAL[BOS], BOS)])
    return made


def encode(text: str) -> list[int]:
    return tokenizer().encode(text, add_special_tokens=False).ids


def decode(ids: list[int]) -> str:
    return tokenizer().decode(ids, skip_special_tokens=False)


def scattered(text: str, share: float, rng) -> list[int]:
    """Like `encode`, with some words as bytes, so that bytes mean something to the model."""
    ids = []
    for piece in re.findall(SPLIT, text):
        ids += [BYTES + byte for byte in piece.encode()] if rng.random() < share else encode(piece)
    return ids


def settings() -> dict:
    """tokenizer_config.json."""
    return {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[BOS], "eos_token": SPECIAL[IM_END], "pad_token": SPECIAL[0],
            "clean_up_tokenization_spaces": False, "model_max_length": 4096}


def document() -> dict:
    return json.loads(tokenizer().to_str())
