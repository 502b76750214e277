"""Text fixtures: tiny random models of the LFM2 text and mixture-of-experts architectures, and what they must answer.

The graph writer, the substitute tokenizer and the short convolution are those of the speech fixtures; importing that
package first also keeps transformers from an unusable torchaudio.
"""

import speech  # noqa: F401
