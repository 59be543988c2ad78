"""Bounds of ATen operators, grouped by topic; importing a module registers its converters."""
