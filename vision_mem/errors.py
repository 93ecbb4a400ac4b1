"""Errors that a user can act on: one line that says what was wrong, expected, and to be done."""

from __future__ import annotations


class VisionMemError(Exception):
    """Base of all errors this package raises on purpose. ``exit_code`` is the command line's."""

    exit_code = 1


class InputError(VisionMemError, ValueError):
    """A value, box, mask, option or file name that cannot be used (exit code 2)."""

    exit_code = 2


class NotFoundError(InputError):
    """Something asked for that nothing remembered answers, or where no way leads (exit code 3)."""

    exit_code = 3


class SourceError(VisionMemError, OSError):
    """A video, folder, camera or stream that cannot be opened or broke for good."""


class SinkError(VisionMemError, OSError):
    """A result that could not be written: no permission, no space, no codec."""


class ModelError(VisionMemError):
    """Weights or a configuration that are missing, damaged, hostile or of another model."""


class NotThere(SourceError, ModelError):
    """What was named as a source, as weights or as a snapshot is not there (exit code 2)."""

    exit_code = 2


class NotUsable(SourceError, SinkError):
    """What was named as a source, or as a place for results, is there but is none (exit code 2)."""

    exit_code = 2


class DamagedFileError(ModelError):
    """A map, memory file or checkpoint that is damaged, or something else (exit code 2)."""

    exit_code = 2


class MissingExtra(VisionMemError, ImportError):
    """An optional dependency that is not installed; the message names the pip command."""
