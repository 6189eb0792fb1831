from typing import Any

import pytest

from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.errors import InvalidRequest


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": -0.1},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"guidance": -1.0},
        {"guidance": float("inf")},
    ],
)
def test_values_without_sense_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        SamplingParams(**wrong)


def test_the_limits_themselves_are_allowed() -> None:
    SamplingParams(temperature=0, top_k=0, top_p=1, guidance=0)
