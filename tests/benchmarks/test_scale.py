import re

from benchmarks.scale import Size, measure


def test_every_figure_is_measured_by_real_processes() -> None:
    lines = measure(Size(apis=(1, 2), workers=(1, 2), waiting=(1, 200), seconds=1.0))
    tables = "\n".join(lines).split("\n\n")
    rows = [[line.split("|")[1:-1] for line in table.splitlines()[2:]] for table in tables if table.startswith("|")]
    assert [len(table) for table in rows] == [2, 4, 4, 6]
    scripts, works, accepts, songs = rows
    assert all(number(cell) > 0 for row in scripts for cell in row[:-1])
    assert [[number(cell) for cell in row[:2]] for row in works] == [[1, 1], [1, 2], [200, 1], [200, 2]]
    # Each worker has begun predictions and ended them, by some scripts each, and Redis has worked for them.
    for row in works:
        taken, finished, called, commands, spent = map(number, row[2:7])
        assert min(taken, finished, spent) > 0
        assert called > finished
        assert commands > called
    assert all(number(cell) > 0 for row in accepts for cell in row[1:])
    # More songs never need less.
    assert sorted(songs[:3], key=lambda row: number(row[1])) == songs[:3]


def number(cell: str) -> float:
    return float(re.sub(r"[ ,%]|KiB|ms", "", cell))
