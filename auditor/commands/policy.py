"""``audit policy``: check a policy file, and show which one is in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

File = Annotated[
    Path | None,
    typer.Argument(help="audit.toml or pyproject.toml (default: found from the current folder)."),
]


def check(file: File = None) -> None:
    """Validate a policy file. Exit code 0, or 2 with every mistake and its line."""
    from auditor.policy.load import PolicyError, load_policy
    from auditor.report.text import visible

    path = _find(file)
    try:
        policy = load_policy(path)
    except PolicyError as error:
        if not error.problems:
            raise
        for problem in error.problems:
            typer.echo(f"{path.name}:{problem.line}: {visible(problem.message)}", err=True)
        raise typer.Exit(2) from None
    typer.echo(
        f"{path.name}: valid; fails on {policy.fail_on}, {len(policy.thresholds)} thresholds, "
        f"{len(policy.required)} required checks, {len(policy.suppress)} suppressions"
    )


def show(file: File = None) -> None:
    """Print the policy in force as JSON, defaults included."""
    from auditor.policy.load import find_policy, load_policy
    from auditor.policy.model import Policy

    path = file or find_policy(Path.cwd())
    policy, source = (Policy(), "default") if path is None else (load_policy(path), path.name)
    typer.echo(json.dumps(policy.to_json(source), indent=2))


def _find(file: Path | None) -> Path:
    from auditor.errors import UsageError
    from auditor.policy.load import find_policy

    path = file or find_policy(Path.cwd())
    if path is None:
        raise UsageError("no audit.toml and no [tool.audit] from here upwards: name a file")
    return path


def register(app: typer.Typer) -> None:
    """Mount the group."""
    group = typer.Typer(help="Check and show the policy that gates a scan.", no_args_is_help=True)
    group.command("check")(check)
    group.command("show")(show)
    app.add_typer(group, name="policy")
