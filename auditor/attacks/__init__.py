"""Evasion attacks: the author of one writes `run`, the base class checks bounds and success."""
