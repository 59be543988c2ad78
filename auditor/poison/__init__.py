"""Which samples of a training set are poisoned or mislabelled: small pure modules, no I/O.

Every method is one file with a `Method` subclass (see `interface`) and one line in
`auditor/plugins.py` (group ``audit.poison``). `engine.examine` runs them over one `Study`, which
holds what they share: activations, predictions, and a probe of our own.
"""
