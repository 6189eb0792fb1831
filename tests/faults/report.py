"""What the fault tests found, as a table: `python -m tests.faults.report`.

Every row is a file of its own, so that test processes that run side by side do not overwrite each other's rows.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

FOLDER = Path(__file__).parents[2] / "build/faults"
TABLE = "table.md"


@dataclass(frozen=True)
class Row:
    """One fault: how often it was tried, which promises it broke, and the seconds until the service was well again."""

    test: str
    tries: int
    lost: int = 0
    doubled: int = 0
    stuck: int = 0
    recovery: list[float] = field(default_factory=list)

    @property
    def is_broken(self) -> bool:
        """Whether a promise was broken."""
        return self.lost > 0 or self.doubled > 0 or self.stuck > 0


class Report:
    """The rows in a folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    def add(
        self, test: str, tries: int, *, lost: int = 0, doubled: int = 0, stuck: int = 0, recovery: Sequence[float] = ()
    ) -> Row:
        """Keep a row; it replaces an earlier one of the same test."""
        row = Row(test, tries, lost, doubled, stuck, [round(seconds, 3) for seconds in recovery])
        self.folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^A-Za-z0-9]+", "-", test).strip("-")
        unfinished = self.folder / f"{name}.{os.getpid()}.new"
        unfinished.write_text(json.dumps(dataclasses.asdict(row)))
        unfinished.replace(self.folder / f"{name}.json")
        return row

    def rows(self) -> list[Row]:
        """All rows, by the name of their test."""
        rows = [Row(**json.loads(path.read_text())) for path in self.folder.glob("*.json")]
        return sorted(rows, key=lambda row: row.test)

    def table(self) -> str:
        """The rows in Markdown, with date and machine."""
        lines = [
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}",
            "",
            "| test | tries | lost | doubled | stuck | recovery in s: min | median | max |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        lines += [_line(row) for row in self.rows()]
        return "\n".join(lines) + "\n"

    def write(self) -> Path:
        """Write the table; returns its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / TABLE
        path.write_text(self.table())
        return path


def machine() -> str:
    """Cores, CPU and Python of this machine."""
    return f"{os.cpu_count()} cores, {_cpu_name()}, Python {platform.python_version()}"


def _cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def _line(row: Row) -> str:
    times = row.recovery
    recovery = [f"{value:.2f}" for value in (min(times), median(times), max(times))] if times else ["", "", ""]
    cells = [row.test, row.tries, row.lost, row.doubled, row.stuck, *recovery]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main() -> int:
    """Print and write the table; status 1 if a promise was broken."""
    report = Report()
    path = report.write()
    print(path.read_text(), end="", flush=True)
    return int(any(row.is_broken for row in report.rows()))


if __name__ == "__main__":
    sys.exit(main())
