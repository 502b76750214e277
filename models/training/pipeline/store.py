"""Where the work lives, and how a file comes into being there: whole or not at all.

Everything that a stage makes lies under `root()`, outside the repository. A stage is done when its mark exists; a file is
written beside its final name and renamed, so that an interruption leaves the previous version.
"""

import json
import os
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent


def root() -> Path:
    base = os.environ.get("EDDY_TRAINING_CACHE")
    if not base:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eddy" / "training"
    path = Path(base)
    path.mkdir(parents=True, exist_ok=True)
    return path


def place(*parts: str) -> Path:
    path = root().joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write(path: Path, save) -> None:
    """Calls `save(temporary path)`, then renames the result to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    write(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n"))


def read_json(path: Path):
    return json.loads(path.read_text())


def log(stage: str, **figures) -> None:
    """One line of a stage's curve: appended to `curves/STAGE.jsonl` and printed."""
    line = json.dumps({"time": round(time.time(), 1), **figures})
    with place("curves", f"{stage}.jsonl").open("a") as file:
        file.write(line + "\n")
    print(stage, line, flush=True)
