"""Other ways to run the same models, each a program of its own that prints one JSON object."""
