"""Layout C: the graphs of onnxruntime-genai's model builder, and the configuration its runtime reads."""

import json
import subprocess
import sys
from pathlib import Path

import onnx

# The builder's own fp16 graphs for a CPU do not run there: their attention is spelt out with shapes that the runtime's
# memory planner takes at their word. Fixtures halve its fp32 graph instead.
PRECISIONS = {"": "fp32", "_q4": "int4"}


def built(checkpoint: Path, precision: str, scratch: Path) -> tuple[onnx.ModelProto, dict]:
    """A graph with its weights inside, and the builder's `genai_config.json`."""
    out = scratch / precision
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", checkpoint, "-o", out, "-p", precision]
    command += ["-e", "cpu", "-c", scratch / "cache"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the model builder failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return onnx.load(str(out / "model.onnx")), json.loads((out / "genai_config.json").read_text())
