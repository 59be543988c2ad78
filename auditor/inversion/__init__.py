"""Search for unknown triggers: families, the batched search over target classes, features."""
