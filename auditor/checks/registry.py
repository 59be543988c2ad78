"""Every registered check, ours and third parties', and which of them a scan should run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditor import plugins
from auditor.checks.interface import NEEDS, BehaviourCheck, Check, FileCheck
from auditor.errors import UsageError


@dataclass(frozen=True, slots=True)
class Registered:
    """A check class and the distribution it came from."""

    check: type[Check]
    origin: str


def all_checks() -> tuple[tuple[Registered, ...], tuple[str, ...]]:
    """Checks in the order they run (file checks first), and notices about broken plug-ins."""
    loaded = plugins.load("audit.checks")
    notices = list(loaded.notices)
    good = []
    for plugin in loaded.plugins:
        if _is_check(plugin.value):
            good.append(Registered(plugin.value, plugin.origin))
        else:
            notices.append(f"plug-in {plugin.value!r} of {plugin.origin} is not a complete check")
    good.sort(key=lambda r: (not issubclass(r.check, FileCheck), r.check.order))
    return tuple(good), tuple(notices)


def _is_check(value: object) -> bool:
    if not (isinstance(value, type) and issubclass(value, FileCheck | BehaviourCheck)):
        return False
    stated = all(hasattr(value, name) for name in ("name", "title", "doc", "needs"))
    return stated and value.needs <= NEEDS


def chosen(
    checks: Iterable[type[Check]], only: Sequence[str], skip: Sequence[str]
) -> tuple[type[Check], ...]:
    """Those selected by ``--checks`` and ``--skip``: full names or the part before a dot.

    Raises `UsageError` for a name that matches nothing.
    """
    known = tuple(checks)
    for word in (*only, *skip):
        if not any(_matches(check, word) for check in known):
            names = ", ".join(sorted(check.name for check in known))
            raise UsageError(f"there is no check {word!r}; checks are: {names}")
    wanted = [c for c in known if not c.on_request]
    kept = [c for c in known if any(_matches(c, w) for w in only)] if only else wanted
    return tuple(c for c in kept if not any(_matches(c, word) for word in skip))


def _matches(check: type[Check], word: str) -> bool:
    return check.name == word or check.name.startswith(word + ".")
