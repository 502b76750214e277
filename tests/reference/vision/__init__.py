"""Vision fixtures: a tiny random model of the LFM2-VL architecture, what its processor makes of images, and what it answers.

The graph writer, the substitute tokenizer and the backbone are those of the speech and text fixtures; importing the
former first also keeps transformers from an unusable torchaudio.
"""

import speech  # noqa: F401
