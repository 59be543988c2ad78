"""The contract of a view: a finished `Report` in, text out. Register under ``audit.formats``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from auditor.report.model import Report


class Format(ABC):
    """Subclass, set the attributes, write `render`. Pure: no I/O, no clock, no model access.

    Every string of a report may come from a hostile model: escape it for the medium you write.
    """

    name: ClassVar[str]
    """The word after ``--format``."""

    title: ClassVar[str]
    """One line for ``audit show --help``."""

    filename: ClassVar[str]
    """The file under ``--out``: ``report.html``."""

    @abstractmethod
    def render(self, report: Report) -> str:
        """One report as text."""

    def render_many(self, reports: Sequence[Report]) -> str:
        """Several reports in one text; formats with an envelope of their own override this."""
        return "\n".join(self.render(report) for report in reports)
