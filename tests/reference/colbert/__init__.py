"""ColBERT fixtures: tiny random late-interaction encoders of the LFM2 architecture, and what pylate answers with them."""
