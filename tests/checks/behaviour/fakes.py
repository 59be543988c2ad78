"""A torch module dressed as the classifier object that behaviour checks get."""

import numpy as np
import torch

from auditor.checks.interface import BehaviourContext, Budget
from auditor.samples.interface import Images
from tests.attacks.nets import digits


class FakeTwin:
    tail = "logits"
    without_gradient = ()


class FakeClassifier:
    """`native` may differ from `twin` to play an artifact whose twin is off."""

    device = "cpu"

    def __init__(self, net, native=None, twin=True, classes=10, shape=(1, 8, 8)):
        self.net, self.native = net, native or net
        self.has_twin, self.classes, self.image_shape = twin, classes, shape
        self.twin = FakeTwin() if twin else None
        self.layers = ()

    def predict(self, images):
        assert images.dtype == np.float32
        with torch.no_grad():
            return self.native(torch.from_numpy(np.ascontiguousarray(images))).numpy()

    def labels(self, images):
        return self.predict(images).argmax(1)

    def twin_logits(self, images, parameters=None):
        assert self.has_twin
        return self.net(images)

    def preprocess(self, images):
        return images


def images(n=60):
    _, _, x, y = digits()
    return Images(x[:n].numpy(), y[:n].numpy(), "digits")


def context(net, n=60, seconds=60.0, options=None, clock=None, **more):
    budget = Budget(seconds, clock) if clock else Budget(seconds)
    classifier = FakeClassifier(net, **more)
    return BehaviourContext(classifier, images(n), None, budget, options=options or {})


def outcomes(check, ctx):
    """(findings, metrics by name, figures, notices) of one run."""
    from auditor.checks.runner import Collector

    gathered = Collector()
    for outcome in check.run(ctx):
        gathered.add(outcome)
    return gathered
