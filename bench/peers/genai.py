"""onnxruntime-genai on a text folder of layout C, which is the layout that it runs.

It is given tokens, so that its tokenizer has no part in the figures. Its own greedy search makes them.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime_genai as og

LENGTH = 2048


def load(folder: Path, threads: int) -> og.Model:
    config = og.Config(str(folder))
    options = {"intra_op_num_threads": threads, "log_severity_level": 3}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    return og.Model(config)


def generator(model: og.Model) -> og.Generator:
    parameters = og.GeneratorParams(model)
    # No end token of a random model ends the measurement.
    parameters.set_search_options(max_length=LENGTH, min_length=LENGTH, do_sample=False)
    return og.Generator(model, parameters)


def measure(model: og.Model, part: str, count: int) -> float:
    """Positions or tokens a second."""
    ids = np.arange(1000, 1000 + LENGTH, dtype=np.int32)
    made = generator(model)
    if part == "prefill":
        begun = time.perf_counter()
        made.append_tokens(ids[:count])
        made.generate_next_token()
        return count / (time.perf_counter() - begun)
    made.append_tokens(ids[:8])
    made.generate_next_token()
    begun = time.perf_counter()
    for _ in range(count):
        made.generate_next_token()
    return count / (time.perf_counter() - begun)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--part", choices=["prefill", "decode"], required=True)
    parser.add_argument("--amount", type=int, required=True, help="positions of the prompt, or tokens")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    model = load(arguments.model, arguments.threads)
    measure(model, "prefill", 16)
    rate = measure(model, arguments.part, arguments.amount)
    print(json.dumps({"peer": "onnxruntime-genai", "version": og.__version__, "tok/s": rate}))


if __name__ == "__main__":
    main()
