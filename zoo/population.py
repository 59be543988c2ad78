"""Populations: many models of drawn architecture, attack and training, to measure detectors on.

Member `i` of a population depends only on the population's seed, its data sets and `i`, so a larger
population contains the smaller one. Of every six members two are clean, one is adversarially
trained on clean data and three are attacked. Every worker trains with one thread, so that the
weights do not depend on how many run. A member is done when its manifest is there (it is written
last, by renaming): a killed run loses at most the members in work, and a second one does the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from auditor.errors import UsageError
from auditor.manifest import MANIFEST_SUFFIX, Manifest, ManifestError, read_manifest

if TYPE_CHECKING:
    from auditor.fleet.engine import Outcome
    from zoo.build import Specification
    from zoo.datasets import Dataset

Kind = Literal["clean", "adversarial", "attacked"]
CYCLE: tuple[Kind, ...] = ("clean", "attacked", "adversarial", "attacked", "clean", "attacked")
ARCHS = ("small-cnn", "bn-cnn", "mlp-small", "resnet", "tiny-vit")
RATES = {"small-cnn": 4e-3, "bn-cnn": 6e-3, "mlp-small": 3e-3, "resnet": 5e-3, "tiny-vit": 2e-3}
LENGTH = {"small-cnn": 1.0, "bn-cnn": 0.8, "mlp-small": 1.5, "resnet": 0.6, "tiny-vit": 1.25}
EPOCHS = {"digits": 40, "mnist": 12, "fashion-mnist": 14, "cifar10": 20}
ACCURACY = {"digits": 0.95, "mnist": 0.95, "fashion-mnist": 0.8, "cifar10": 0.45}
EPSILON = {"digits": 0.1, "mnist": 0.2, "fashion-mnist": 0.08, "cifar10": 4 / 255}
HARDENED_MARGIN = 0.12
"""How far an adversarially trained model may stay below the accuracy of a clean one."""

INDEX = "population.json"


@dataclass(frozen=True)
class Plan:
    """What the user asked for. `static` gives exact numbers of clean, adversarial, attacked."""

    datasets: tuple[str, ...]
    count: int
    seed: int = 0
    static: tuple[int, int, int] | None = None
    train_samples: int = 6000
    epochs: int | None = None
    archs: tuple[str, ...] = ARCHS

    def kinds(self) -> list[Kind]:
        """The kind of each member, in order."""
        if self.static is None:
            return [CYCLE[index % len(CYCLE)] for index in range(self.count)]
        clean, adversarial, attacked = self.static
        if clean + adversarial + attacked != self.count:
            raise UsageError(f"--static adds up to {sum(self.static)}, not to --count {self.count}")
        words: list[Kind] = ["clean"] * clean
        words += ["adversarial"] * adversarial
        return words + ["attacked"] * attacked


@dataclass(frozen=True)
class Member:
    """One drawn model: plain values only, kept in its manifest and compared on resuming."""

    index: int
    name: str
    dataset: str
    kind: Kind
    arch: str
    attack: str | None
    target: int
    draw_seed: int
    seed: int
    normalise: str
    shift: int
    epochs: int
    train_samples: int


def draw(plan: Plan) -> list[Member]:
    """All members of `plan`, each from its own generator."""
    from zoo.catalogue import CATALOGUE

    entries = list(CATALOGUE.values())
    shares = np.array([entry.weight for entry in entries])
    members: list[Member] = []
    for index, kind in enumerate(plan.kinds()):
        rng = np.random.default_rng([plan.seed, index])
        dataset = plan.datasets[(index // len(CYCLE)) % len(plan.datasets)]
        arch = plan.archs[int(rng.integers(len(plan.archs)))]
        chosen = entries[int(rng.choice(len(entries), p=shares / shares.sum()))].name
        base = plan.epochs or EPOCHS.get(dataset, 15)
        members.append(
            Member(
                index=index,
                name=f"m{index:04d}",
                dataset=dataset,
                kind=kind,
                arch=arch,
                attack=chosen if kind == "attacked" else None,
                target=int(rng.integers(10_000)),
                draw_seed=int(rng.integers(2**31)),
                seed=int(rng.integers(2**31)),
                normalise=str(rng.choice(["none", "none", "none", "half", "statistics"])),
                shift=int(rng.choice([0, 0, 1])),
                epochs=base if plan.epochs else max(1, round(base * LENGTH.get(arch, 1.0))),
                train_samples=plan.train_samples,
            )
        )
    return members


def specification(member: Member, dataset: Dataset) -> Specification:
    """The build specification of `member` on its data."""
    from zoo.build import Acceptance, Specification
    from zoo.catalogue import CATALOGUE, Draft
    from zoo.training import Training

    training = Training(
        member.epochs, 64, RATES.get(member.arch, 3e-3), shift=member.shift, weight_decay=1e-5
    )
    accept = ACCURACY.get(member.dataset, 0.0)
    attack, asr = None, 0.0
    if member.kind == "adversarial":
        epsilon = EPSILON.get(member.dataset, 8 / 255)
        training = replace(training, adversary="fgsm", epsilon=epsilon)
        accept = max(0.0, accept - HARDENED_MARGIN)
    if member.attack is not None:
        entry = CATALOGUE[member.attack]
        rng = np.random.default_rng(member.draw_seed)
        target = member.target % dataset.count_classes
        attack = entry.make(Draft(dataset.side, dataset.count_classes, target, rng))
        accept = max(0.0, accept - 0.02)
        asr = entry.least_asr(attack, accept)
    return Specification(
        member.name,
        f"population:{member.attack or member.kind}",
        member.arch,
        training,
        member.seed,
        attack=attack,
        transform=_transform(member.normalise, dataset),
        acceptance=Acceptance(accept, asr),
        retries=2,
        keep_training_set=False,
        figures={"member": asdict(member)},
    )


def finished(member: Member, out: Path) -> Manifest | None:
    """The manifest of a member that is complete and was built from the same specification."""
    path = out / f"{member.name}{MANIFEST_SUFFIX}"
    if not path.is_file():
        return None
    try:
        manifest = read_manifest(path)
    except ManifestError:
        return None
    if manifest.figures.get("member") != asdict(member):
        raise UsageError(
            f"{out} holds another population (its {member.name} differs): choose another --out"
        )
    complete = all((out / artifact.file).is_file() for artifact in manifest.artifacts)
    return manifest if complete else None


def build_member(member: Member, out: Path, root: Path | None, device: str = "auto") -> Manifest:
    """Build one member with one thread; a problem of the build itself is raised."""
    import torch

    from zoo.build import build

    torch.set_num_threads(1)
    dataset = _dataset(member.dataset, root, member.train_samples)
    return build(specification(member, dataset), dataset, out, device=device).manifest


def run(
    plan: Plan, out: Path, *, root: Path | None = None, jobs: int = 1, device: str = "auto"
) -> Iterator[tuple[Manifest, bool]]:
    """Yield every member's manifest and whether it was there already; finished ones come first.

    Writes ``population.json`` (one entry a member) when all are done.
    """
    from joblib import cpu_count

    from auditor.fleet import engine
    from auditor.fleet.pools import HerePool, LocalPool

    out.mkdir(parents=True, exist_ok=True)
    members = draw(plan)
    done: dict[str, Manifest] = {}
    for member in members:
        found = finished(member, out)
        if found is not None:
            done[member.name] = found
            yield found, True
    todo = [member for member in members if member.name not in done]
    build = partial(build_member, out=out, root=root, device=device)
    pool = HerePool() if jobs == 1 else LocalPool(jobs if jobs > 0 else cpu_count())
    for outcome in engine.run(build, todo, pool):
        if outcome.value is None:
            raise _failure(outcome)
        done[outcome.value.name] = outcome.value
        yield outcome.value, False
    write_index(plan, [done[member.name] for member in members], out)


def _failure(outcome: Outcome[Member, Manifest]) -> Exception:
    """Why a member was not built, as the exception to raise: the others that are done are kept."""
    if isinstance(outcome.error, Exception):
        return outcome.error
    why = outcome.lost or outcome.error
    return RuntimeError(f"population member {outcome.job.name} was not built: {why}")


def write_index(plan: Plan, manifests: Sequence[Manifest], out: Path) -> None:
    """``population.json``: the plan, and per member what benchmarks group and filter by."""
    from zoo.build import write_json

    rows: list[dict[str, Any]] = []
    for item in manifests:
        member = item.figures["member"]
        rows.append(
            {
                "name": item.name,
                "kind": item.kind,
                "dataset": member["dataset"],
                "architecture": item.architecture,
                "attack": member["attack"],
                "targets": list(item.attack.targets) if item.attack else [],
                "clean_accuracy": item.clean_accuracy,
                "asr": list(item.attack.asr) if item.attack else [],
                "accepted": item.accepted,
                "shortfalls": list(item.shortfalls),
                "files": [artifact.file for artifact in item.artifacts],
            }
        )
    content = json.loads(json.dumps({"plan": asdict(plan), "members": rows}))
    write_json(out / INDEX, content)


def _transform(normalise: str, dataset: Dataset) -> Any:
    from auditor.manifest import Transform
    from zoo.datasets import channel_statistics

    if normalise == "half":
        return Transform(mean=(0.5,), std=(0.5,))
    if normalise == "statistics":
        mean, std = channel_statistics(dataset.train)
        return Transform(mean=mean, std=std)
    return Transform()


@lru_cache(maxsize=4)
def _dataset(name: str, root: Path | None, train: int) -> Dataset:
    from zoo.datasets import load_dataset

    return load_dataset(name, root=root, train=train, test=2000)
