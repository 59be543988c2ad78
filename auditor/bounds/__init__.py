"""Certified lower bounds of robustness: interval and CROWN bounds, randomized smoothing."""
