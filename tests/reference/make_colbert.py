"""Makes the ColBERT fixtures: three model folders and what pylate answers with their models.

    python tests/reference/make_colbert.py --out tests/fixtures

Ends with an error when a written graph does not reproduce pylate's vectors.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import onnxruntime

from colbert import export, peer, references
from colbert.checkpoint import BOTH, CAUSAL, Shape


def check(folder: Path, model, reference: Path) -> None:
    """The graph on ONNX Runtime against the vectors of the folder's own settings."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    worst, at = 0.0, 0
    recorded = np.load(reference / "as_is.npy")
    for texts, is_query in ((references.QUERIES, True), (references.DOCUMENTS, False)):
        for text in texts:
            features = model.tokenize([text], is_query=is_query)
            feed = {name: features[name].numpy().astype(np.int64) for name in ("input_ids", "attention_mask")}
            for port in session.get_inputs():
                feed.setdefault(port.name, np.zeros_like(feed["input_ids"]))
            rows = session.run(None, feed)[0][0]
            if rows.shape[-1] != recorded.shape[-1]:
                rows = rows @ model[1].linear.weight.detach().numpy().T
                rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
            keep = feed["attention_mask"][0].astype(bool)
            if is_query and model.do_query_expansion:
                keep[:] = True
            elif not is_query:
                keep &= ~np.isin(feed["input_ids"][0], model.skiplist)
            rows = rows[keep]
            worst = max(worst, float(np.abs(rows - recorded[at : at + len(rows)]).max(initial=0)))
            at += len(rows)
    assert at == len(recorded), f"{folder.name}: {at} vectors, {len(recorded)} recorded"
    print(f"{folder.name}: {at} vectors, off by at most {worst:.1e}")
    assert worst < 2e-5, folder.name


def variants(shape: Shape, base: dict) -> dict:
    return {name: (knobs, peer.load(shape, **(base | knobs))) for name, knobs in references.VARIANTS.items()}


def make(out: Path, shape: Shape, base: dict, **form) -> None:
    """A folder with the settings `base` and its references; `form` is how the graph is exported."""
    models = variants(shape, base)
    model = models["as_is"][1]
    reference = out / f"{shape.name}-reference"
    shutil.rmtree(reference, ignore_errors=True)
    export.folder(out / shape.name, shape, model, **form)
    references.record(reference, models)
    check(out / shape.name, model, reference)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True, help="the folder of the fixtures")
    out = arguments.parse_args().out
    # With expansion, as the first published model queries; without, as the exporter writes it.
    make(out, CAUSAL, {"query_length": 32, "document_length": 64, "do_query_expansion": True})
    make(out, BOTH, {"query_length": 32, "document_length": 64, "do_query_expansion": False}, head=False)

    # The first model again, as exports of models with segments look: the same vectors.
    segments = out / "colbert-segments"
    model = peer.load(CAUSAL, query_length=32, document_length=64, do_query_expansion=True)
    export.folder(segments, CAUSAL, model, segments=True)
    check(segments, model, out / f"{CAUSAL.name}-reference")
    for shared in ("tokenizer.json", "config_sentence_transformers.json", "config.json"):
        (segments / shared).unlink()


if __name__ == "__main__":
    main()
