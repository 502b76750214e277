"""Makes the text fixtures: model folders of two tiny checkpoints, what they must answer, and rendered conversations.

    python tests/reference/make_text.py --out tests/fixtures

Ends with an error when a written graph does not reproduce its reference.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx

import text  # noqa: F401  (sets up the imports below)
from speech import tokenizer
from speech.graph import save
from speech.parity import Table
from text import chats, checkpoint, decoder, genai
from text.runtime import Text
from text.shapes import DENSE, MIXTURE, Shape

PROMPT = "<|startoftext|><|im_start|>user\nWhat is the weather like today?<|im_end|>\n<|im_start|>assistant\n"
# Sampling defaults as published cards give them; two ends, because some folders list two.
GENERATION = {
    "text": {"bos_token_id": 1, "eos_token_id": 7, "temperature": 0.3, "min_p": 0.15, "repetition_penalty": 1.05},
    "moe": {"bos_token_id": 1, "eos_token_id": [7, 2], "temperature": 0.1, "top_k": 50, "top_p": 0.9},
}
LEAST_COSINE = 0.98


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def settings(folder: Path, made, shape: Shape, template: str) -> None:
    tokenizer.write(folder)
    (folder / "chat_template.jinja").write_text(chats.template(template))
    (folder / "config.json").write_text(json.dumps(made.config.to_diff_dict(), indent=2, sort_keys=True) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(GENERATION[shape.name], indent=2) + "\n")


def record(folder: Path, prompt: list[int], run) -> None:
    ids, logits = run
    fresh(folder)
    np.save(folder / "logits.npy", logits.numpy().astype(np.float32))
    kit = tokenizer.build()
    answer = {"prompt_text": PROMPT, "prompt_ids": prompt, "ids": ids, "text": kit.decode(ids, skip_special_tokens=False)}
    (folder / "greedy.json").write_text(json.dumps(answer, ensure_ascii=False, indent=1) + "\n")


def check(path: Path, prompt: list[int], run, *, exact: bool) -> None:
    table = Table(f"{path.parent.parent.name}/{path.name}")
    ids, logits = run
    got = Text(path).forced(prompt, ids)
    if exact:
        table.near("logits", got, logits.numpy())
        table.equal("greedy ids", got.argmax(1).tolist(), ids)
    else:
        table.close("logits", got, logits.numpy(), LEAST_COSINE)
        same = sum(a == b for a, b in zip(got.argmax(1).tolist(), ids))
        table.row("choices that agree", f"{same} of {len(ids)}", True)
    table.end()


def write(folder: Path, graphs: dict, prompt: list[int], run) -> None:
    for suffix, graph in graphs.items():
        path = folder / "onnx" / f"model{suffix}.onnx"
        save(graph, path, pieces=lambda _, name=path.name: f"{name}_data")
        check(path, prompt, run, exact=not suffix)


def make(out: Path, shape: Shape, prompt: list[int]) -> None:
    made, (run,) = checkpoint.chosen(shape, [prompt])
    record(out / f"{shape.name}-reference", prompt, run)

    folder = fresh(out / f"{shape.name}-a")
    (folder / "onnx").mkdir()
    settings(folder, made, shape, "lfm2")
    graph = decoder.build(shape, made)
    int4 = decoder.quantised(graph, 4)
    graphs = {"": graph, "_fp16": decoder.half(graph), "_q8": decoder.quantised(graph, 8), "_q4": int4}
    graphs |= {"_q4f16": decoder.half(int4), "_q4f32": decoder.quantised(graph, 4, table=False)}
    write(folder, graphs, prompt, run)

    if shape is DENSE:
        positions = decoder.build(shape, made, with_positions=True)
        variant = fresh(out / f"{shape.name}-a-positions")
        # The same weights in the same order: the graph is read with the other folder's data file.
        save(positions, folder / "onnx" / "positions.onnx", pieces=lambda _: "model.onnx_data")
        check(folder / "onnx" / "positions.onnx", prompt, run, exact=True)
        (variant / "onnx").mkdir()
        (folder / "onnx" / "positions.onnx").rename(variant / "onnx" / "model.onnx")
        (variant / "README.md").write_text(
            "Layout A with the graph of the earliest text exports: `position_ids` among its inputs.\n\n"
            f"This file goes over those of `../{folder.name}`, which has everything else.\n"
        )
        variant = fresh(out / f"{shape.name}-a-hanging")
        (variant / "onnx").mkdir()
        hanging(folder / "onnx" / "model.onnx", variant / "onnx" / "model.onnx")
        (variant / "README.md").write_text(
            "Layout A with a multiplication in its first node that takes most of a minute and that nothing can stop.\n\n"
            f"This file goes over those of `../{folder.name}`, which has everything else.\n"
        )

    folder = fresh(out / f"{shape.name}-c")
    (folder / "onnx").mkdir()
    settings(folder, made, shape, "lfm25")
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "checkpoint"
        checkpoint.save(made, source)
        graphs = {}
        for suffix, precision in genai.PRECISIONS.items():
            graphs[suffix], config = genai.built(source, precision, Path(scratch))
        graphs["_q4f16"] = decoder.half(graphs["_q4"], logits=True)
        graphs["_fp16"] = decoder.half(graphs[""], logits=True)
    write(folder, graphs, prompt, run)
    config["model"]["decoder"]["filename"] = "onnx/model_q4.onnx"
    (folder / "genai_config.json").write_text(json.dumps(config, indent=4) + "\n")


def hanging(source: Path, target: Path) -> None:
    """A copy of a decoder whose ids come out of two products of large square matrices of zeros.

    The matrices' size depends on an input, or the runtime would multiply them when it loads the graph; a node that runs
    is not stopped by anything, which is what makes an engine hang.
    """
    model = onnx.load(source, load_external_data=False)
    graph = model.graph
    ids = graph.input[0].name
    assert ids == "input_ids", ids
    for node in graph.node:
        node.input[:] = ["slow_ids" if name == ids else name for name in node.input]
    helper = onnx.helper
    size = helper.make_tensor("slow_size", onnx.TensorProto.INT64, [2], [12288, 12288])
    none = helper.make_tensor("slow_none", onnx.TensorProto.INT64, [1], [0])
    graph.initializer.extend([size, none])
    nodes = [
        helper.make_node("Shape", [ids], ["slow_shape"]),
        helper.make_node("Mul", ["slow_shape", "slow_none"], ["slow_zero"]),
        helper.make_node("Add", ["slow_zero", "slow_size"], ["slow_sides"]),
        helper.make_node("ConstantOfShape", ["slow_sides"], ["slow_matrix"]),
        helper.make_node("MatMul", ["slow_matrix", "slow_matrix"], ["slow_product"]),
        helper.make_node("ReduceSum", ["slow_product"], ["slow_sum"], keepdims=0),
        helper.make_node("Cast", ["slow_sum"], ["slow_count"], to=onnx.TensorProto.INT64),
        helper.make_node("Add", [ids, "slow_count"], ["slow_ids"]),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes + rest)
    target.write_bytes(model.SerializeToString())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True, help="the folder of the fixtures")
    arguments.add_argument("--only", choices=("text", "moe", "chat"), help="a part of the work")
    given = arguments.parse_args()

    prompt = tokenizer.build().encode(PROMPT, add_special_tokens=False).ids
    for shape in (DENSE, MIXTURE):
        if given.only in (None, shape.name):
            make(given.out, shape, prompt)
    if given.only in (None, "chat"):
        chats.record(fresh(given.out / "chat-reference"))


if __name__ == "__main__":
    main()
