"""Makes the pipeline importable, one thread, and no cache of the developer's."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


@pytest.fixture(autouse=True)
def alone(tmp_path):
    os.environ["EDDY_TRAINING_CACHE"] = str(tmp_path)
    torch.set_num_threads(1)
    torch.set_grad_enabled(True)  # the reference implementations of tests/reference turn it off for good
    torch.manual_seed(0)
    yield
    del os.environ["EDDY_TRAINING_CACHE"]
