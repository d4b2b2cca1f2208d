"""Everything that can go wrong, under one roof.

Each message is meant to be shown to a person: it says what happened and what to do next.
"""


class PastaError(Exception):
    """Base of every error that this package raises."""


class EmphasisError(PastaError, ValueError):
    """A span, its alpha or its place is wrong, or it covers no token."""


class ProfileError(PastaError, ValueError):
    """A head profile is malformed or does not fit its model."""


class UnsupportedModelError(PastaError):
    """The model cannot be loaded or its attention cannot be steered."""


class PromptTooLongError(PastaError, ValueError):
    """The prompt and its answer do not fit the model's context."""


class AnswerTimeoutError(PastaError, TimeoutError):
    """An answer took longer than it may."""


class ServerError(PastaError):
    """A server cannot be reached, does not steer, or failed."""


class DocumentError(PastaError):
    """A folder or file of documents is missing, unreadable or not UTF-8."""


class PromptError(PastaError, ValueError):
    """The prompt is of the wrong kind, or its chat messages cannot be rendered."""


class TaskError(PastaError):
    """The data of a task are missing or malformed, or it cannot be asked or scored as told."""


class MissingExtraError(PastaError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"This part of pasta_chains needs the package {package}. "
            f'Install it with: pip install "pasta-chains[{extra}]"'
        )
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str]]:
        return type(self), (self.package, self.extra)


class NothingEmphasizedWarning(UserWarning):
    """Retrieved texts were to be emphasized, and none of them was."""


class EmphasisDroppedWarning(UserWarning):
    """An operation on emphasized text could not keep track of its characters."""
