"""The ``audit`` command. Commands live in `auditor.commands`; groups are mounted by entry point.

Exit codes: 0 nothing at or above ``--fail-on``, 1 findings, 2 usage or unreadable input, 3
incomplete, 130 interrupted, 143 told to stop. An exception of ours never exits 1: `main` turns it
into one line and code 2.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib.metadata import EntryPoint, entry_points

import typer

from auditor.commands import (
    bench,
    checks,
    compare,
    data,
    diff,
    fleet,
    inspect,
    policy,
    robustness,
    rules,
    sanitize,
    scan,
    show,
)
from auditor.errors import AuditError
from auditor.version import __version__

GROUP = "audit.commands"

app = typer.Typer(
    name="audit",
    help="Audit an image classifier somebody else trained: file threats, backdoors, robustness, "
    "and a sanitized copy.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"audit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks of unexpected errors."),
) -> None:
    """Options before the command."""
    if debug:
        os.environ["AUDIT_DEBUG"] = "1"


for _module in (
    scan,
    fleet,
    robustness,
    sanitize,
    data,
    inspect,
    checks,
    rules,
    show,
    compare,
    diff,
    policy,
    bench,
):
    _module.register(app)


def mount(target: typer.Typer, points: list[EntryPoint]) -> None:
    """Mount command groups of entry point group ``audit.commands``: Typer apps or functions.

    One that cannot be loaded is a line on standard error, never a crash.
    """
    for point in points:
        try:
            loaded = point.load()
            if isinstance(loaded, typer.Typer):
                target.add_typer(loaded, name=point.name)
            else:
                target.command(point.name)(loaded)
        except Exception as error:  # a stranger's import may raise anything
            typer.echo(f"audit: command {point.name!r} could not be loaded: {error}", err=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code; 143 when told to stop (SIGTERM)."""
    signal.signal(signal.SIGTERM, _stop)
    mount(app, sorted(entry_points(group=GROUP), key=lambda p: p.name))
    raise SystemExit(run(arguments))


def _stop(number: int, frame: object) -> None:
    """A cancelled job leaves by the way an interrupted one does, and cleans up what it can.

    Once: `timeout` tells a process and then its group. Not by ignoring, which children inherit.
    """
    signal.signal(number, lambda number, frame: None)
    raise SystemExit(128 + number)


def run(arguments: list[str] | None = None) -> int:
    """Run and return the exit code; prints one sentence for anything that went wrong."""
    try:
        result = app(args=arguments, prog_name="audit", standalone_mode=False)
    except typer.TyperException as error:
        from typer.rich_utils import rich_format_error

        rich_format_error(error)  # type: ignore[arg-type]  # typer's own class is not public
        _json_error(arguments, "usage", error.format_message())
        return 2
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("audit: interrupted", err=True)
        return 130
    except AuditError as error:
        _complain(str(error))
        _json_error(arguments, error.kind, str(error))
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 2
    except Exception as error:
        _complain(f"unexpected {type(error).__name__}: {error} (this is our bug; add --debug)")
        _json_error(arguments, "internal", type(error).__name__)
        if os.environ.get("AUDIT_DEBUG"):
            raise
        return 2
    return int(result) if isinstance(result, int) else 0


def _json_error(arguments: list[str] | None, kind: str, message: str) -> None:
    """With ``--json`` standard output is JSON even when nothing could be audited."""
    given = sys.argv[1:] if arguments is None else arguments
    if "--json" not in given:
        return
    from auditor.commands.writing import print_json
    from auditor.report.build import build_error

    problem = AuditError(message)
    problem.kind = kind
    print_json([build_error("", problem)])


def _complain(sentence: str) -> None:
    from auditor.report.text import visible

    typer.echo(f"audit: {visible(sentence)}", err=True)
