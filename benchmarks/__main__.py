"""All benchmarks in their quick form, one after the other; `make bench` calls this."""

from __future__ import annotations

from benchmarks import adapters, codec, engine, estimates, fairness, int8, scale, service, summary
from benchmarks.api import accepting, listeners
from benchmarks.machine import describe_machine
from benchmarks.peers import comparison


def main() -> None:
    print(describe_machine())
    parts = {
        "Summary": summary.measure,
        "Accepting": accepting.measure,
        "Fairness": fairness.measure,
        "Listeners": listeners.measure,
        "Service": service.measure,
        "Scale": scale.measure,
        "Estimates": estimates.measure,
        "Engine": engine.measure,
        "Adapters": adapters.measure,
        "Codec": codec.measure,
        "Peers": comparison.measure,
        "Int8": int8.measure,
    }
    for title, measure in parts.items():
        print(f"\n## {title}\n")
        print("\n".join(measure()), flush=True)


if __name__ == "__main__":
    main()
