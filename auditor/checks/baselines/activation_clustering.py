"""ART's activation clustering on the suspect training set, where ART is installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import numpy as np

from auditor.checks.interface import BehaviourCheck, BehaviourContext, Skipped
from auditor.findings import Metric, Outcome, Severity

SMALL = 0.35
"""ART's bound (`ClusteringAnalyzer.analyze_by_relative_size`): a smaller cluster is suspicious."""


class ArtActivationClustering(BehaviourCheck):
    """A yardstick that needs the training data."""

    name = "baseline.activation-clustering"
    title = "Activation clustering of ART (baseline)"
    doc = (
        "Chen et al. 2018 as the Adversarial Robustness Toolbox implements it: activations of the "
        "training set, per class reduced to 10 components (FastICA) and clustered in two; a "
        "cluster below 35 % of its class is suspicious. Needs the training set and pip install "
        "adversarial-robustness-toolbox. A yardstick for `audit bench --against`."
    )
    needs = frozenset({"activations", "training_data"})
    default_severity = Severity.INFO
    order = 91
    weight = 10.0
    on_request = True

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """The smallest cluster's share of its class."""
        try:
            defence = import_module("art.defences.detector.poison.activation_defence")
            analyzer = import_module("art.defences.detector.poison.clustering_analyzer")
        except ImportError:
            raise Skipped("the Adversarial Robustness Toolbox is not installed") from None
        assert context.training is not None
        labels = context.training.labels
        activations = context.classifier.features(context.training.pixels)
        separated = [activations[labels == k] for k in range(context.classifier.classes)]
        kept = [k for k, rows in enumerate(separated) if len(rows) >= 20]
        if not kept:
            raise Skipped("no class of the training set has 20 images")
        clusters, _ = defence.cluster_activations([separated[k] for k in kept], nb_clusters=2)
        _, suspicious, _ = analyzer.ClusteringAnalyzer().analyze_by_relative_size(
            clusters, size_threshold=SMALL
        )
        shares = [
            float(np.bincount(np.asarray(rows), minlength=2).min() / len(rows)) for rows in clusters
        ]
        smallest = int(np.argmin(shares))
        flagged = any(len(names) for names in suspicious)
        yield Metric(f"{self.name}.score", round(0.5 - shares[smallest], 4))
        yield Metric(f"{self.name}.flag", bool(flagged))
        yield Metric(f"{self.name}.target", kept[smallest])
