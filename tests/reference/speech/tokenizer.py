"""A substitute tokenizer: special tokens at the published ids, a byte alphabet, merges learnt from the text below.

Promises: ids 0..599 are special (reserved where the published file has no use for them), 600..855 are the 256 bytes,
then the merges; the last `UNUSED` rows of the embedding table belong to no token. Any text survives a round trip.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from .shapes import VOCAB

UNUSED = 8
SPECIALS = 600
BYTES = SPECIALS
MERGES = VOCAB - UNUSED - BYTES - 256

START, END_OF_TEXT, TURN_START, TURN_END = 1, 2, 6, 7
AUDIO_START, TEXT_END, AUDIO_PLACEHOLDER = 128, 130, 133

NAMED = {
    0: "<|pad|>",
    1: "<|startoftext|>",
    2: "<|endoftext|>",
    3: "<|fim_pre|>",
    4: "<|fim_mid|>",
    5: "<|fim_suf|>",
    6: "<|im_start|>",
    7: "<|im_end|>",
    8: "<|tool_list_start|>",
    9: "<|tool_list_end|>",
    10: "<|tool_call_start|>",
    11: "<|tool_call_end|>",
    12: "<|tool_response_start|>",
    13: "<|tool_response_end|>",
    128: "<|audio_start|>",
    129: "<|text_start|>",
    130: "<|text_end|>",
    131: "<|mixed_start|>",
    132: "<|mixed_end|>",
    133: "<|reserved_123|>",
    396: "<image>",
    497: "<|img_thumbnail|>",
    498: "<|image_start|>",
    499: "<|image_end|>",
    500: "<|image_split|>",
}
NAMED |= {397 + (r - 1) * 10 + (c - 1): f"<|img_row_{r}_col_{c}|>" for r in range(1, 11) for c in range(1, 11)}

# Words split from spaces and punctuation, numbers in groups of three: enough of a modern split to be worth testing.
SPLIT = r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+"

CORPUS = """
A house that listens answers when it is spoken to and keeps silent when it is not. The kettle is on, the lamp in the
hall is off, and the morning report says that rain will come from the west before noon. What is the weather like today?
Please remind me to water the plants on Thursday. Perform ASR. Perform TTS. Use the UK female voice. Use the US male
voice. Respond with interleaved text and audio. system user assistant tool. The tide turns, the boat turns with it, and
the water goes back round the stone: that turning water is the eddy. Ein Haus hört zu. Où est la gare ? El niño soñó.
これは小さな試験です。こんにちは、世界。Здравствуй, мир. Ελληνικά και άλλα. naïve café, façade, über, smørrebrød.
one two three four five six seven eight nine ten eleven twelve; 1 2 3 10 20 30 100 200 2025 2026.
"""

CHAT_TEMPLATE = """{{- bos_token -}}
{%- set ns = namespace(system="") -%}
{%- if messages and messages[0].role == "system" -%}
{%- set ns.system = messages[0].content -%}
{%- set messages = messages[1:] -%}
{%- endif -%}
{%- if tools -%}
{%- set ns.system = ns.system + ("\\n" if ns.system else "") + "List of tools: " + (tools | tojson) -%}
{%- endif -%}
{%- if ns.system -%}
{{- "<|im_start|>system\\n" + ns.system + "<|im_end|>\\n" -}}
{%- endif -%}
{%- for message in messages -%}
{{- "<|im_start|>" + message.role + "\\n" -}}
{%- if message.role == "assistant" -%}
{%- generation -%}
{{- message.content + "<|im_end|>\\n" -}}
{%- endgeneration -%}
{%- else -%}
{{- message.content + "<|im_end|>\\n" -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- "<|im_start|>assistant\\n" -}}
{%- endif -%}
"""


def special_names() -> list[str]:
    reserved = iter(range(SPECIALS))
    return [NAMED.get(i) or f"<|unused_{next(reserved)}|>" for i in range(SPECIALS)]


def build() -> Tokenizer:
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = split
    learner.train_from_iterator(
        CORPUS.splitlines(keepends=True),
        trainers.BpeTrainer(vocab_size=256 + MERGES, initial_alphabet=alphabet, show_progress=False),
    )
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]][:MERGES]
    assert len(merges) == MERGES, f"the corpus yields {len(merges)} merges, {MERGES} wanted"

    vocab = {name: i for i, name in enumerate(special_names())}
    vocab |= {byte: BYTES + i for i, byte in enumerate(alphabet)}
    vocab |= {left + right: BYTES + 256 + i for i, (left, right) in enumerate(merges)}
    assert len(vocab) == VOCAB - UNUSED

    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    # In the order of their ids: an added token takes the id its text already has in the vocabulary.
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special_names()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A", special_tokens=[("<|startoftext|>", START)]
    )
    return tokenizer


def write(folder: Path) -> Tokenizer:
    tokenizer = build()
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<|startoftext|>",
                "eos_token": "<|im_end|>",
                "pad_token": "<|pad|>",
                "add_bos_token": True,
                "add_eos_token": False,
                "clean_up_tokenization_spaces": False,
                "model_max_length": 1024,
            },
            indent=2,
        )
        + "\n"
    )
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 1, "eos_token_id": 7, "pad_token_id": 0, "temperature": 0.1, "top_k": 50}, indent=2)
        + "\n"
    )
    return tokenizer
