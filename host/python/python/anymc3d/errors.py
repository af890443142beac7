"""What can go wrong. Each message is one line with the facts: the file, what was found, what was expected."""

from __future__ import annotations

__all__ = [
    "AnymcError",
    "BackboneError",
    "Cancelled",
    "EvaluationError",
    "OutputError",
    "PluginError",
    "ScanError",
    "TaskError",
    "TrainError",
    "UsageError",
    "WeightsError",
]


class AnymcError(Exception):
    """Every error of this package."""


class UsageError(AnymcError, ValueError):
    """An argument that cannot be."""


class BackboneError(AnymcError):
    """A backbone that is not found, is refused, or cannot compute what was asked."""


class PluginError(AnymcError):
    """A plugin or its weights that are not found, or refused; nothing was predicted with it."""


class ScanError(AnymcError):
    """A scan that cannot be used: every plugin that reads it fails alike."""


class TaskError(AnymcError):
    """A plugin that failed at a case: its own error, its panic, logits that are no numbers."""


class OutputError(AnymcError):
    """A result that cannot be written."""


class WeightsError(AnymcError):
    """An adapter or a head that does not fit a plugin, or whose numbers are not PyTorch's."""


class TrainError(AnymcError):
    """A training run that ended without weights, or a table that cannot be trained on."""


class Cancelled(TrainError):
    """A training run that was ended; its last whole epoch is kept."""


class EvaluationError(AnymcError):
    """Cases or scores that cannot be measured."""
