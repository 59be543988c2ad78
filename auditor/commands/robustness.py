"""``audit robustness MODEL``: attacks alone, with the whole time budget and their own settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from auditor.commands import parameters as p
from auditor.commands.common import BEHAVIOUR, commas
from auditor.commands.options import scan_options
from auditor.commands.running import audit_all
from auditor.errors import UsageError

if TYPE_CHECKING:
    from auditor.findings import Json

ENSEMBLE = ("apgd", "fab")
"""Members of the worst-case ensemble that can be asked for alone."""

ATTACKS = ("fgsm", "pgd", "square", "worst-case", *ENSEMBLE)
OTHERS = ("certificate", "corruptions", "fooling", "masking")
IN_L2 = ("fgsm", "pgd", "worst-case", *ENSEMBLE)
BUDGET = 300.0
STEPS, QUERIES = 100, 1000
"""Of the worst-case ensemble, which has no minute to share here; Square's queries too."""

UNITS = {
    "linf": "Epsilon is in 0..1 image units, before the model's preprocessing: the most that any "
    "pixel may change.",
    "l2": "Epsilon is in 0..1 image units, before the model's preprocessing: the Euclidean length "
    "of the change over all pixels.",
}
Option = typer.Option


def robustness(
    model: p.Model,
    data: p.Data,
    data_root: p.DataRoot = None,
    split: p.Split = "test",
    max_samples: p.MaxSamples = 500,
    class_names: p.ClassNames = None,
    download: p.Download = False,
    layout: p.Layout = None,
    size: p.Size = None,
    scale: p.Scale = None,
    mean: p.Mean = None,
    std: p.Std = None,
    attack: Annotated[
        list[str] | None,
        Option(
            help=f"{', '.join(ATTACKS)}, or {', '.join(OTHERS)}; several with commas or by "
            "repeating (default: all).",
            rich_help_panel=BEHAVIOUR,
        ),
    ] = None,
    epsilon: Annotated[
        list[float] | None,
        Option(help="In 0..1 image units; repeat for a curve.", rich_help_panel=BEHAVIOUR),
    ] = None,
    norm: Annotated[str, Option(help="linf or l2.", rich_help_panel=BEHAVIOUR)] = "linf",
    steps: Annotated[
        int | None,
        Option(help=f"PGD: 40, ensemble: {STEPS}.", min=1, rich_help_panel=BEHAVIOUR),
    ] = None,
    queries: Annotated[
        int | None,
        Option(help=f"Of Square: {QUERIES}.", min=1, rich_help_panel=BEHAVIOUR),
    ] = None,
    restarts: Annotated[int, Option(help="Of PGD and APGD.", min=1, rich_help_panel=BEHAVIOUR)] = 1,
    smoothing: Annotated[
        float | None,
        Option(
            help="Certify the majority vote under Gaussian noise of this standard deviation "
            "(randomized smoothing) instead of the model itself.",
            rich_help_panel=BEHAVIOUR,
        ),
    ] = None,
    run_anyway: p.RunAnyway = False,
    seed: p.Seed = 0,
    device: p.Device = "auto",
    out: p.Out = None,
    formats: p.Formats = "table,json",
    json_only: p.JsonOnly = False,
    no_images: p.NoImages = False,
    quiet: p.Quiet = False,
    no_color: p.NoColor = False,
    fail_on: p.FailOn = None,
    budget: Annotated[
        float, Option(help="Seconds for all attacks together.", rich_help_panel=p.LIMITS)
    ] = BUDGET,
    memory_limit: p.Memory = "6GiB",
    timeout: p.Timeout = 600.0,
    jobs: p.Jobs = 0,
) -> None:
    """Attack a model: accuracy that is left, and what is certain to be left.

    With enough --budget every figure is over all of --max-samples and depends on --seed alone; with
    too little, on fewer samples (n is in the report).
    """
    given = locals()
    wanted = _wanted(attack or [], norm)
    settings = _settings(wanted, epsilon or [], norm, steps, queries, restarts)
    settings |= _smoothing(smoothing, wanted)
    options = scan_options(
        given,
        checks=("file", "accuracy", *_checks(wanted)),
        sanitize=False,
        timeout=max(timeout, 2 * budget),
        settings=settings,
        notices=(UNITS[norm],),
    )
    shown = ("json",) if json_only else commas(formats)
    raise typer.Exit(audit_all([model], options, shown, out, json_only, quiet, no_color))


def _wanted(given: list[str], norm: str) -> tuple[str, ...]:
    """The attacks asked for, or all that there are in `norm`. Raises `UsageError`."""
    if norm not in UNITS:
        raise UsageError(f"--norm must be {' or '.join(UNITS)}, not {norm!r}")
    names = tuple(dict.fromkeys(word for words in given for word in commas(words)))
    known = (*ATTACKS, *OTHERS)
    for name in names:
        if name not in known:
            raise UsageError(f"there is no attack {name!r}; attacks are: {', '.join(known)}")
        if norm == "l2" and name not in IN_L2:
            raise UsageError(f"--attack {name} works in linf only")
    if names:
        return names
    return tuple(n for n in known if n not in ENSEMBLE and (norm == "linf" or n in IN_L2))


def _checks(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The check behind each attack: members of the ensemble are part of the worst-case one."""
    names = ("worst-case" if name in ENSEMBLE else name for name in wanted)
    return tuple(dict.fromkeys(f"robustness.{name}" for name in names))


def _settings(
    wanted: tuple[str, ...],
    epsilons: list[float],
    norm: str,
    steps: int | None,
    queries: int | None,
    restarts: int,
) -> dict[str, Json]:
    """What the checks read as ``context.options``. Raises `UsageError` for a useless epsilon."""
    for value in epsilons:
        if not 0 < value < float("inf") or (norm == "linf" and value > 1):
            bound = "above 0 and at most 1" if norm == "linf" else "above 0"
            raise UsageError(f"--epsilon must be {bound} (0..1 image units), not {value:g}")
    settings: dict[str, Json] = {
        "budget.whole": True,
        "robustness.norm": norm,
        "robustness.restarts": restarts,
        "robustness.worst_case_steps": steps or STEPS,
        "robustness.queries": queries or QUERIES,
        "robustness.worst_case_queries": queries or QUERIES,
    }
    if steps is not None:
        settings["robustness.steps"] = steps
    if epsilons:
        settings["robustness.epsilons"] = settings["robustness.epsilon"] = sorted(set(epsilons))
    if "worst-case" not in wanted:
        settings["robustness.attacks"] = [name for name in wanted if name in ENSEMBLE]
    return settings


def _smoothing(sigma: float | None, wanted: tuple[str, ...]) -> dict[str, Json]:
    """The setting behind ``--smoothing``. Raises `UsageError` where it would do nothing."""
    if sigma is None:
        return {}
    if not 0 < sigma <= 1:
        raise UsageError(f"--smoothing must be above 0 and at most 1, not {sigma:g}")
    if "certificate" not in wanted:
        raise UsageError("--smoothing belongs to --attack certificate (linf)")
    return {"robustness.sigma": sigma}


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("robustness")(robustness)
