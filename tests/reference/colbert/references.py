"""What pylate makes of the texts below: ids, mask, vectors, scores."""

import json
from pathlib import Path

import numpy as np
from pylate import scores
import torch

QUERIES = [
    "What is the weather like today?",
    "eddy",
    "",
    "where does the water go round the stone",
    "Où est la gare ? El niño soñó.",
    "これは小さな試験です。",
    "one, two; three: four! (five) [six] {seven} <eight>",
    "[Q] a prefix that the caller wrote, and [D] another",
    "  leading blanks and\ttabs\n",
    "a query that is longer than the query length, so that words at its end are lost, every one of them, " * 2,
]
DOCUMENTS = [
    "A house that listens answers when it is spoken to and keeps silent when it is not.",
    "The tide turns, the boat turns with it, and the water goes back round the stone: that turning water is the eddy.",
    "!?.,;:",
    "",
    "kettle",
    "Ein Haus hört zu. naïve café, façade, über, smørrebrød.",
    "Здравствуй, мир. Ελληνικά και άλλα. こんにちは、世界。",
    "[1, 2, 3] == list(range(1, 4)) # ~!@#$%^&*()_+`-=",
    "<|im_start|>user\nwords that look like markers<|im_end|>",
    "The morning report says that rain will come from the west before noon. " * 6,
]
# One knob away from the folder's own settings each, and one with several.
VARIANTS = {
    "as_is": {},
    "expansion": {"do_query_expansion": True, "attend_to_expansion_tokens": False},
    "attended": {"do_query_expansion": True, "attend_to_expansion_tokens": True},
    "plain": {"do_query_expansion": False},
    "short": {"query_length": 8, "document_length": 20, "skiplist_words": [",", "Ġthe", "Ċ"]},
    "bare": {"query_prefix": "", "document_prefix": ""},
}


def one_by_one(model, texts: list[str], is_query: bool) -> tuple[list, list[np.ndarray]]:
    """Each text alone: what stands beside a text in a batch is padding, which some models are not indifferent to."""
    tokens, vectors = [], []
    for text in texts:
        features = model.tokenize([text], is_query=is_query)
        tokens.append({"ids": features["input_ids"][0].tolist(), "mask": features["attention_mask"][0].tolist()})
        vectors.append(model.encode([text], is_query=is_query)[0])
    return tokens, vectors


def record(folder: Path, variants: dict) -> None:
    """`variants` maps a name to the settings that differ and the model that has them."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = {}
    for name, (knobs, model) in variants.items():
        query_tokens, queries = one_by_one(model, QUERIES, True)
        document_tokens, documents = one_by_one(model, DOCUMENTS, False)
        rows = [row for vectors in (queries, documents) for row in vectors]
        np.save(folder / f"{name}.npy", np.concatenate(rows).astype("<f4"))
        kept = [document for document in documents if len(document)]
        table = [
            [float(scores.colbert_scores(torch.tensor(q[None]), torch.tensor(d[None]))[0, 0]) for d in kept] for q in queries
        ]
        cases[name] = {
            "settings": knobs,
            "queries": [{"text": t, **k, "vectors": len(v)} for t, k, v in zip(QUERIES, query_tokens, queries)],
            "documents": [{"text": t, **k, "vectors": len(v)} for t, k, v in zip(DOCUMENTS, document_tokens, documents)],
            "scores": table,
        }
    (folder / "cases.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")
