"""Every benchmark in its quick form, one after the other; what `make bench` runs."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime

from benchmarks import accepting, engine, listeners, service


def main() -> None:
    date, machine = f"{datetime.now(UTC):%Y-%m-%d}", platform.processor() or platform.machine()
    print(f"{date} {machine}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for title, measure in (
        ("Accepting", accepting.measure),
        ("Listeners", listeners.measure),
        ("Service", service.measure),
        ("Engine", engine.measure),
    ):
        print(f"\n## {title}\n")
        print("\n".join(measure()), flush=True)


if __name__ == "__main__":
    main()
