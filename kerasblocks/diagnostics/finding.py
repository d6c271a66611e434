"""What one check of the check-up has found: a verdict, the figures behind it, and what to do."""

import dataclasses
from typing import Any, Literal

from kerasblocks._json_values import json_values

_WORDS = 300  # characters of an error
Verdict = Literal["pass", "warn", "fail", "not applicable"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check has found.

    Attributes:
        check: the check's name.
        verdict: `"pass"`, `"warn"`, `"fail"` or `"not applicable"`.
        message: what was found, with the figures.
        remedy: what to do about it, empty where there is nothing to do.
        figures: the numbers behind the verdict, by their names.
        seconds: how long the check took.
    """

    check: str
    verdict: Verdict
    message: str
    remedy: str = ""
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it as strings, numbers and lists that JSON takes; what is not finite becomes None."""
        return dict(json_values(dataclasses.asdict(self)))


def passed(message: str, **figures: Any) -> Finding:
    """Returns a finding of a check, which gets its name later, that all is well."""
    return Finding("", "pass", message, "", figures)


def warned(message: str, remedy: str, **figures: Any) -> Finding:
    """Returns one that something may be wrong."""
    return Finding("", "warn", message, remedy, figures)


def failed(message: str, remedy: str, **figures: Any) -> Finding:
    """Returns one that something is wrong."""
    return Finding("", "fail", message, remedy, figures)


def wrong(fails: bool, message: str, remedy: str, **figures: Any) -> Finding:
    """Returns `failed` where the check fails, else `warned`."""
    return (failed if fails else warned)(message, remedy, **figures)


def told_of(error: Exception) -> str:
    """Returns the kind and the first words of an error, which may be pages of a framework's."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:_WORDS]}{' ...' if len(words) > _WORDS else ''}"


def not_applicable(reason: str) -> Finding:
    """Returns one that there is nothing to check, and why."""
    return Finding("", "not applicable", reason)
