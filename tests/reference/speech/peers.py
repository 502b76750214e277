"""Makes liquid-audio importable on a machine without a GPU and without torchaudio.

Owns the stand-in for `torchaudio`. liquid-audio uses it for resampling alone, and every recording given to it here is
already at the model's rate, so the stand-in refuses anything else instead of resampling.
"""

import logging
import os
import sys
import types
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import torch  # noqa: E402
import transformers  # noqa: E402,F401  (looks for torchaudio while it loads, so it loads before the stand-in exists)
from transformers import Lfm2Config, Lfm2Model  # noqa: E402,F401


def _resample(wave, source_rate, target_rate):
    if source_rate != target_rate:
        raise ValueError(f"reference audio must be at {target_rate} Hz, got {source_rate} Hz")
    return wave


if "torchaudio" not in sys.modules:
    torchaudio = types.ModuleType("torchaudio")
    torchaudio.functional = types.ModuleType("torchaudio.functional")
    torchaudio.functional.resample = _resample
    sys.modules["torchaudio"] = torchaudio
    sys.modules["torchaudio.functional"] = torchaudio.functional

torch.set_num_threads(1)
torch.set_grad_enabled(False)
