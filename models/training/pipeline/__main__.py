"""Runs the stages: `python -m pipeline` does everything that is missing, `python -m pipeline STAGE` one stage.

A stage whose mark exists is skipped, a half-done one goes on. Stages that do not need each other run side by side, one
thread each, as many as there are processors in use (`--workers`); a stage that trains alone is spread over all of them.
`status.txt` in the cache says how far everything is and how to stop and resume.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import group, store


@dataclass(frozen=True)
class Stage:
    needs: tuple[str, ...]
    call: str
    spread: bool = False
    curve: str = ""


STAGES = {
    "speech": Stage((), "data:speech"),
    "codec": Stage(("speech",), "codec:train", curve="codec"),
    "users": Stage((), "data:users"),
    "tongue": Stage(("codec",), "joint:train_tongue", spread=True, curve="tongue"),
    "encoder": Stage(("users",), "encoder:train", spread=True, curve="encoder"),
    "more": Stage(("users",), "data:more"),
    "polish": Stage(("codec",), "codec:polish", curve="polish"),
    "codec-figures": Stage(("polish",), "codec_test:report"),
    "joint": Stage(("encoder", "tongue", "more"), "joint:train_joint", spread=True, curve="joint"),
    "later": Stage(("users",), "data:later"),
    "settle": Stage(("joint", "later"), "joint:train_settle", spread=True, curve="settle"),
    "typed": Stage(("settle",), "typed:train", spread=True, curve="typed"),
    "export": Stage(("typed", "polish"), "export:folders"),
    "evaluate": Stage(("export",), "evaluate:report"),
    "precisions": Stage(("export",), "evaluate:precisions"),
    "merge": Stage(("settle",), "merge:last_ones"),
    "card": Stage(("evaluate", "precisions", "merge", "codec-figures"), "card:write"),
}


def done(name: str):
    return store.place("done", name)


def yield_to_others() -> None:
    """Lowers the priority of this session: with automatic grouping the scheduler heeds niceness only inside one."""
    try:
        Path("/proc/self/autogroup").write_text("19")
    except OSError:
        pass


def run(name: str, workers: int) -> None:
    yield_to_others()
    if workers > 1 and STAGES[name].spread:
        import torch.multiprocessing as processes

        # The workers save and leave when their group is told to end; this process waits for them.
        signal.signal(signal.SIGTERM, lambda *_: None)
        meeting = store.place("meet", f"{name}-{os.getpid()}")
        meeting.unlink(missing_ok=True)
        processes.spawn(group.member, (workers, STAGES[name].call, str(meeting)), nprocs=workers)
    else:
        group.call(STAGES[name].call)
    store.write(done(name), lambda temporary: temporary.write_text(time.strftime("%F %T\n")))


def status(running: dict[str, subprocess.Popen]) -> None:
    lines = [f"written {time.strftime('%F %T')} by process {os.getpid()}",
             f"stop: kill {os.getpid()}   resume: {sys.executable} -m pipeline   (in {store.SOURCE})", ""]
    for name, stage in STAGES.items():
        state = "done" if done(name).exists() else f"running, process {running[name].pid}" if name in running else "waiting"
        curve = store.place("curves", f"{stage.curve}.jsonl") if stage.curve else None
        last = curve.read_text().splitlines()[-1] if curve and curve.exists() else ""
        lines.append(f"{name:14} {state:26} {last}")
    tests = store.place("curves", "encoder-test.jsonl")
    if tests.exists():
        lines += ["", "ear, test clips:", *tests.read_text().splitlines()[-4:]]
    notes = store.place("notes.txt")
    if notes.exists():
        lines += ["", notes.read_text().rstrip()]
    store.write(store.place("status.txt"), lambda temporary: temporary.write_text("\n".join(lines) + "\n"))


def drive(workers: int) -> int:
    running: dict[str, subprocess.Popen] = {}
    spread: dict[str, int] = {}
    widening: set[str] = set()

    def stop(*_):
        for process in running.values():
            os.killpg(process.pid, signal.SIGTERM)
        sys.exit(130)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    store.place("driver.pid").write_text(f"{os.getpid()}\n")
    while True:
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                if process.returncode and name in widening:
                    widening.discard(name)
                elif process.returncode:
                    print(f"{name} failed: see {store.place('logs', name + '.log')}", file=sys.stderr)
                    for other in running.values():
                        os.killpg(other.pid, signal.SIGTERM)
                    return 1
        ready = [name for name, stage in STAGES.items() if not done(name).exists() and name not in running and all(done(need).exists() for need in stage.needs)]
        if not ready and not running:
            status(running)
            return 0
        busy = sum(spread[name] for name in running)
        while ready and busy < workers:
            name = ready.pop(0)
            spread[name] = workers - busy if STAGES[name].spread and not ready else 1
            busy += spread[name]
            command = [sys.executable, "-m", "pipeline", name, "--workers", str(spread[name])]
            with store.place("logs", f"{name}.log").open("ab") as log:
                running[name] = subprocess.Popen(command, cwd=store.SOURCE, stdout=log, stderr=log, start_new_session=True)
        if len(running) == 1 and not ready and busy < workers:
            # A stage that is left alone stops at its next step and goes on over all processors.
            name, process = next(iter(running.items()))
            if STAGES[name].spread and name not in widening:
                widening.add(name)
                os.killpg(process.pid, signal.SIGTERM)
        status(running)
        time.sleep(10)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    parser.add_argument("stage", nargs="?", choices=STAGES)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    given = parser.parse_args()
    if given.stage is None:
        return drive(given.workers)
    run(given.stage, given.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
