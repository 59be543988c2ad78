"""The parameters several commands share, as annotated types, and what some of them parse to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from auditor.commands.common import BEHAVIOUR, GATE, INPUT, LIMITS, OUTPUT, numbers, side

if TYPE_CHECKING:
    from auditor.samples.preprocessing import Overrides

FORMATS = "table, json, html, markdown, sarif, cyclonedx, junit, csv; several with commas"
DATA = (
    "Labelled clean samples: a folder per class, .npz with x and y, IDX folder, .tar, or "
    "digits, mnist, fashion-mnist, cifar10."
)
Option = typer.Option

Model: TypeAlias = Annotated[Path, typer.Argument(help="An ONNX, TorchScript or .pt2 file.")]
Data: TypeAlias = Annotated[str, Option(help=DATA, rich_help_panel=INPUT)]
OptionalData: TypeAlias = Annotated[str | None, Option("--data", help=DATA, rich_help_panel=INPUT)]
DataRoot: TypeAlias = Annotated[
    Path | None,
    Option(help="Where named data sets lie (default: AUDITOR_DATA).", rich_help_panel=INPUT),
]
Split: TypeAlias = Annotated[str, Option(help="train or test.", rich_help_panel=INPUT)]
MaxSamples: TypeAlias = Annotated[
    int, Option(help="For the expensive checks.", rich_help_panel=INPUT)
]
ClassNames: TypeAlias = Annotated[
    str | None,
    Option("--classes", help="The model's class names in order.", rich_help_panel=INPUT),
]
Download: TypeAlias = Annotated[
    bool, Option("--download", help="Allow fetching a named data set.", rich_help_panel=INPUT)
]
Layout: TypeAlias = Annotated[
    str | None, Option(help="Override: NCHW, NHWC, NHW, flat, ...", rich_help_panel=INPUT)
]
Size: TypeAlias = Annotated[
    str | None, Option(help="Override: HEIGHTxWIDTH.", rich_help_panel=INPUT)
]
Scale: TypeAlias = Annotated[
    float | None, Option(help="Override: what 1.0 becomes (255).", rich_help_panel=INPUT)
]
Mean: TypeAlias = Annotated[
    str | None, Option(help="Override: per channel, after --scale.", rich_help_panel=INPUT)
]
Std: TypeAlias = Annotated[str | None, Option(help="Override.", rich_help_panel=INPUT)]
RunAnyway: TypeAlias = Annotated[
    bool,
    Option(
        "--run-anyway",
        help="Load even a file that would act on the machine.",
        rich_help_panel=BEHAVIOUR,
    ),
]
Seed: TypeAlias = Annotated[int, Option(help="Same seed, same report.", rich_help_panel=BEHAVIOUR)]
Device: TypeAlias = Annotated[str, Option(help="auto, cpu or cuda.", rich_help_panel=BEHAVIOUR)]
Out: TypeAlias = Annotated[
    Path | None,
    Option(help="Folder for files (default: audit-reports/NAME/).", rich_help_panel=OUTPUT),
]
Formats: TypeAlias = Annotated[str, Option("--format", "-f", help=FORMATS, rich_help_panel=OUTPUT)]
JsonOnly: TypeAlias = Annotated[
    bool, Option("--json", help="JSON alone on stdout.", rich_help_panel=OUTPUT)
]
NoImages: TypeAlias = Annotated[
    bool, Option("--no-images", help="Leave pictures of samples out.", rich_help_panel=OUTPUT)
]
Quiet: TypeAlias = Annotated[
    bool, Option("--quiet", "-q", help="One line per model.", rich_help_panel=OUTPUT)
]
NoColor: TypeAlias = Annotated[
    bool, Option("--no-color", help="Plain text.", rich_help_panel=OUTPUT)
]
FailOn: TypeAlias = Annotated[
    str | None,
    Option(help="critical, high, medium, low or never (default: high).", rich_help_panel=GATE),
]
Config: TypeAlias = Annotated[
    Path | None,
    Option(help="Policy file (default: audit.toml, pyproject).", rich_help_panel=GATE),
]
Budget: TypeAlias = Annotated[
    float | None,
    Option(help="Seconds for behaviour checks (default: 60).", rich_help_panel=LIMITS),
]
Memory: TypeAlias = Annotated[
    str, Option("--memory", help="Of the model's process.", rich_help_panel=LIMITS)
]
Timeout: TypeAlias = Annotated[float, Option(help="Seconds for one step.", rich_help_panel=LIMITS)]
Jobs: TypeAlias = Annotated[int, Option(help="CPU threads; 0: all.", rich_help_panel=LIMITS)]


def overrides(
    layout: str | None, size: str | None, scale: float | None, mean: str | None, std: str | None
) -> Overrides:
    """What the user states about preprocessing. Raises `UsageError`."""
    from auditor.samples.preprocessing import Overrides

    return Overrides(layout, scale, numbers(mean, "mean"), numbers(std, "std"), side(size))
