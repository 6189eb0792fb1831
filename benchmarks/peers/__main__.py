"""Our engine beside audiocraft and transformers.

python -m benchmarks.peers                 # one request of 1 s, three rounds: a few minutes on two cores
python -m benchmarks.peers --full          # one request and four at once, of 5 s, five rounds: about an hour
python -m benchmarks.peers --full --seconds 10 --requests 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.peers.comparison import AUDIOCRAFT_ENVIRONMENT, FULL, QUICK, measure
from benchmarks.peers.models import MOST_REQUESTS


def main() -> None:
    """Print the tables of the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="longer requests, more rounds, four requests at once too")
    parser.add_argument("--seconds", type=float, help="of each request")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--requests", type=int, nargs="+", choices=range(1, MOST_REQUESTS + 1), help="at once")
    parser.add_argument("--codec-seconds", type=float, help="of the sound that the codec alone decodes")
    parser.add_argument("--audiocraft", type=Path, metavar="FOLDER", help=f"its environment ({AUDIOCRAFT_ENVIRONMENT})")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    form = FULL if given.pop("full") else QUICK
    print("\n".join(measure(**form | given)))


if __name__ == "__main__":
    main()
