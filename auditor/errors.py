"""What can go wrong for a user: one sentence that says what, where and what to do.

`AuditError` and its children become one line on standard error and exit code 2. Anything else
that escapes is our bug: `app.main` reports it in one line too and shows the traceback only with
``--debug``.
"""


class AuditError(Exception):
    """A problem the user can act on; `str(error)` is the whole message.

    `kind` is the stable word that stands in ``report.json`` (``error.kind``).
    """

    kind = "error"


class UsageError(AuditError):
    """The command line or the configuration contradicts itself."""

    kind = "usage"


class UnreadableArtifact(AuditError):
    """The model file is missing, truncated, empty or not what it says."""

    kind = "unreadable"


class UnsupportedArtifact(AuditError):
    """A format we recognise and refuse by name (pickle, state dict, Keras, ...)."""

    kind = "unsupported"


class UnreadableSamples(AuditError):
    """The sample data cannot be read or does not fit the model."""

    kind = "samples"


class SandboxError(AuditError):
    """The child process died, hung or ran out of memory: a fact about the artifact."""

    kind = "sandbox"
