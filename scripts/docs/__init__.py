"""The generated parts of ``docs/``: command line, checks, rules. ``python -m scripts.docs``."""
