"""From evidence to a probability: logistic regression over scale-free features, with provenance."""
