"""Every benchmark in its quick form, one after the other; what `make bench` runs."""

from __future__ import annotations

from benchmarks import accepting, engine, estimates, int8, listeners, peers, service
from benchmarks.machine import describe_machine


def main() -> None:
    print(describe_machine())
    parts = {
        "Accepting": accepting.measure,
        "Listeners": listeners.measure,
        "Service": service.measure,
        "Estimates": estimates.measure,
        "Engine": engine.measure,
        "Peers": peers.measure,
        "Int8": int8.measure,
    }
    for title, measure in parts.items():
        print(f"\n## {title}\n")
        print("\n".join(measure()), flush=True)


if __name__ == "__main__":
    main()
