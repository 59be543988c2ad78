"""Checks, sanitizers, formats and triggers by name: ours and third parties' through one loader.

A registration is one line: for ours in `BUILTIN`, for others an entry point in the group of the
same name. A plug-in that cannot be loaded is a notice, never a crash; a name that is taken stays
with its first owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

BUILTIN: dict[str, tuple[str, ...]] = {
    "audit.checks": (
        "auditor.checks.file.onnx_bytes:BytesCheck",
        "auditor.checks.file.onnx_trigger:TriggerCheck",
        "auditor.checks.file.onnx_operators:OperatorCheck",
        "auditor.checks.file.onnx_invariants:InvariantCheck",
        "auditor.checks.file.onnx_resources:ResourceCheck",
        "auditor.checks.file.torch_zip_rules:TorchZipCheck",
        "auditor.checks.file.torch_pickle:TorchPickleCheck",
        "auditor.checks.file.torch_payload:TorchPayloadCheck",
        "auditor.checks.file.torch_code:TorchCodeCheck",
        "auditor.checks.file.torch_trigger:TorchTriggerCheck",
        "auditor.checks.file.torch_pt2:TorchPt2Check",
        "auditor.checks.behaviour.trigger_confirm:TriggerConfirmation",
        "auditor.checks.behaviour.accuracy:CleanAccuracy",
        "auditor.checks.behaviour.probing:TriggerProbing",
        "auditor.checks.behaviour.data_free:DataFreeEvidence",
        "auditor.checks.behaviour.inversion:TriggerInversion",
        "auditor.checks.behaviour.all_to_all:AllToAll",
        "auditor.checks.behaviour.consensus:ClassConsensus",
        "auditor.checks.behaviour.clustering:ActivationClustering",
        "auditor.checks.baselines.neural_cleanse:NeuralCleanse",
        "auditor.checks.baselines.neural_cleanse:FullNeuralCleanse",
        "auditor.checks.baselines.activation_clustering:ArtActivationClustering",
        "auditor.checks.behaviour.robustness_fgsm:FgsmRobustness",
        "auditor.checks.behaviour.robustness_pgd:PgdRobustness",
        "auditor.checks.behaviour.robustness_square:SquareRobustness",
        "auditor.checks.behaviour.robustness_worst_case:WorstCaseRobustness",
        "auditor.checks.behaviour.robustness_masking:GradientMasking",
        "auditor.checks.behaviour.robustness_certificate:CertifiedRobustness",
        "auditor.checks.behaviour.robustness_fooling:FoolingInputs",
        "auditor.checks.behaviour.robustness_corruptions:CorruptionRobustness",
    ),
    "audit.triggers": (
        "auditor.inversion.transforms:KernelFilter",
        "auditor.inversion.transforms:FlowField",
        "auditor.inversion.tones:ToneCurve",
    ),
    "audit.families": (
        "auditor.inversion.families:Patch",
        "auditor.inversion.families:Additive",
        "auditor.inversion.smooth:Smooth",
        "auditor.inversion.whole_image:Blend",
        "auditor.inversion.transforms:Warping",
        "auditor.inversion.tones:Tone",
        "auditor.inversion.transforms:Smoothing",
    ),
    "audit.poison": (
        "auditor.poison.clustering:ActivationClustering",
        "auditor.poison.spectral:SpectralSignatures",
        "auditor.poison.spectral:RobustWhitening",
        "auditor.poison.reclassify:Reclassification",
        "auditor.poison.trigger:TriggerSearch",
        "auditor.poison.label_noise:LabelNoise",
        "auditor.poison.superimpose:Superimposing",
        "auditor.poison.duplicates:Duplicates",
        "auditor.poison.outliers:Outliers",
    ),
    "audit.sanitizers": (
        "auditor.sanitize.lipschitz:LipschitzPruning",
        "auditor.sanitize.unlearning:Unlearning",
        "auditor.sanitize.universal:UniversalUnlearning",
        "auditor.sanitize.fine_pruning:FinePruning",
        "auditor.sanitize.ibau:Ibau",
        "auditor.sanitize.neuron_pruning:AdversarialPruning",
        "auditor.sanitize.activation_bounds:ActivationBounds",
    ),
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """A loaded registration; `origin` names the distribution it came from."""

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a group holds, in registration order, and what could not be loaded."""

    plugins: tuple[Plugin, ...]
    notices: tuple[str, ...]


def load(group: str, *, third_party: bool = True) -> Loaded:
    """Everything registered in `group`. Never raises for a third party's mistake."""
    plugins = [Plugin(_resolve(spec), "model-auditor") for spec in BUILTIN.get(group, ())]
    notices: list[str] = []
    if third_party:
        plugins.extend(_third_party(group, {_name(p.value) for p in plugins}, notices))
    return Loaded(tuple(plugins), tuple(notices))


def _resolve(spec: str) -> Any:
    module, _, attribute = spec.partition(":")
    return getattr(import_module(module), attribute)


@cache
def _installed(finder: Callable[..., Iterable[EntryPoint]], group: str) -> tuple[EntryPoint, ...]:
    """The entry points of `group`; looked up once a process, for it reads every distribution."""
    return tuple(finder(group=group))


def _third_party(group: str, taken: set[str], notices: list[str]) -> Iterator[Plugin]:
    for entry in _installed(entry_points, group):
        origin = entry.dist.name if entry.dist is not None else "unknown"
        try:
            value = entry.load()
        except Exception as error:  # a stranger's import may raise anything
            notices.append(f"plug-in {entry.name!r} of {origin} could not be loaded: {error!r}")
            continue
        name = _name(value)
        if name in taken:
            notices.append(f"plug-in {entry.name!r} of {origin} ignored: {name!r} is taken")
            continue
        taken.add(name)
        yield Plugin(value, origin)


def _name(value: Any) -> str:
    return str(getattr(value, "name", getattr(value, "family", value)))
