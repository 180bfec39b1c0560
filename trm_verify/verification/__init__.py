"""From a model and a question to checked certificates and results; `api.py` is the way in."""
