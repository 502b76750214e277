"""Trains the model that Eddy carries with itself. `python -m pipeline` runs every stage that is not done yet."""
