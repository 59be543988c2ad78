"""Trigger families: what attackers stamp on images, for the zoo, probing and inversion."""
