"""Speech fixtures: tiny random models of the LFM2.5-Audio architecture and what they must answer.

`peers` has to be imported before liquid-audio: it stands in for torchaudio, whose builds do not match the pinned torch.
"""

from . import peers  # noqa: F401
