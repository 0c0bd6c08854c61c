"""What `iter doctor` looks at. Nothing here imports a heavy package in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        group: Heading that it stands under.
        status: "fail" stops recipes from running, "warn" only some, or makes them worse.
        found: What there is.
        fix: What to do; empty if nothing.
    """

    group: str
    name: str
    status: Status
    found: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """The check as plain data."""
        return asdict(self)


def worst(checks: Sequence[Check]) -> Status:
    """The worst status of all."""
    for status in ("fail", "warn"):
        if any(c.status == status for c in checks):
            return status
    return "ok"


def all_checks() -> list[Check]:
    """Run all checks; one that breaks becomes a warning and doesn't hide the others."""
    from itercli.doctor import machine, packages, tools

    groups: list[Callable[[], Iterator[Check]]] = [
        packages.checks,
        machine.checks,
        tools.checks,
        tools.model_checks,
        tools.environment_checks,
    ]
    found: list[Check] = []
    for group in groups:
        try:
            found += group()
        except Exception as error:
            name = f"{group.__module__.rpartition('.')[2]}.{group.__name__}"
            found.append(
                Check("doctor", name, "warn", f"{type(error).__name__}: {error}", "please report this")
            )
    return found
