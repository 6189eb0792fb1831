"""Products of packed weights against numpy's, in every variant that this machine runs and on up to three threads."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_core.kernels.library import Kernels, Matrix, all_kernels, available

Floats = npt.NDArray[np.float32]
TINIEST, LEVELS = np.float32(1e-30), np.float32(127)
cases = st.tuples(st.integers(1, 70), st.integers(1, 150), st.integers(1, 40), st.integers(0, 2**32 - 1))
"""Outputs, inputs, rows and a seed."""
thoroughly = settings(max_examples=40, deadline=None, derandomize=True)


def test_the_library_has_been_built() -> None:
    assert available()


def everywhere() -> list[Kernels]:
    """All variants, each on one thread, on two and on three."""
    return [kernels for threads in (1, 2, 3) for kernels in all_kernels(threads)]


def multiply(kernels: Kernels, weight: Floats, x: Floats, *, int8: bool) -> Floats:
    product: Floats = Matrix(torch.from_numpy(weight), kernels, int8=int8)(torch.from_numpy(x.copy())).numpy()
    return product


def draw(case: tuple[int, int, int, int]) -> tuple[Floats, Floats]:
    """A weight, and rows of very different sizes."""
    outputs, inputs, rows, seed = case
    generator = np.random.default_rng(seed)
    weight, x = generator.normal(size=(outputs, inputs)), generator.normal(size=(rows, inputs))
    return weight.astype(np.float32), (x * 10.0 ** generator.integers(-6, 7, (rows, 1))).astype(np.float32)


def whole_numbers(values: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Each row in levels of its largest value, and that level's size."""
    largest = np.maximum(np.abs(values).max(1, keepdims=True), TINIEST)
    return np.rint(values / (largest / LEVELS)).astype(np.int64), largest / LEVELS


def int8_product(weight: Floats, x: Floats) -> Floats:
    levels, scales = whole_numbers(weight)
    largest = np.maximum(np.abs(x).max(1, keepdims=True), TINIEST)
    rows = np.rint(x * (LEVELS / largest)).astype(np.int64)  # rounded twice, in float32, as the kernels do
    product: Floats = (rows @ levels.T).astype(np.float32) * (scales.T * (largest / LEVELS))
    return product


@thoroughly
@given(case=cases)
def test_float32_is_within_rounding_of_float64(case: tuple[int, int, int, int]) -> None:
    weight, x = draw(case)
    expected = x.astype(np.float64) @ weight.T.astype(np.float64)
    sizes = np.linalg.norm(x.astype(np.float64), axis=1)[:, None] * np.linalg.norm(weight, axis=1)
    bits: dict[str, Floats] = {}
    for kernels in everywhere():
        product = multiply(kernels, weight, x, int8=False)
        assert (np.abs(product - expected) <= 1e-5 * sizes).all(), kernels.name
        # Nor does the number of threads change a bit.
        assert np.array_equal(bits.setdefault(kernels.name, product), product), kernels.name


@thoroughly
@given(case=cases)
def test_int8_is_exact_in_whole_numbers(case: tuple[int, int, int, int]) -> None:
    weight, x = draw(case)
    expected = int8_product(weight, x)
    for kernels in everywhere():
        assert np.array_equal(multiply(kernels, weight, x, int8=True), expected), kernels.name


@thoroughly
@given(seed=st.integers(0, 2**32 - 1), inputs=st.integers(2, 150))
def test_int8_rounds_the_same_where_values_lie_half_way(seed: int, inputs: int) -> None:
    generator = np.random.default_rng(seed)
    x = np.abs(generator.normal(size=(20, inputs))).astype(np.float32)
    largest = x.max(1, keepdims=True)
    halves = ((np.floor(x / largest * 126) + 0.5) * largest / 127).astype(np.float32)
    towards = generator.choice(np.array([-np.inf, np.inf], dtype=np.float32), halves.shape)
    near = np.where(generator.random(halves.shape) < 0.5, halves, np.nextafter(halves, towards))
    near[:, :1] = largest
    weight = np.eye(inputs, dtype=np.float32)
    expected = int8_product(weight, near)
    for kernels in everywhere():
        assert np.array_equal(multiply(kernels, weight, near, int8=True), expected), kernels.name


@thoroughly
@given(case=cases, cuts=st.sets(st.integers(1, 39), max_size=6), int8=st.booleans())
def test_a_row_s_bits_do_not_depend_on_its_neighbours(
    case: tuple[int, int, int, int], cuts: set[int], int8: bool
) -> None:
    weight, x = draw(case)
    edges = sorted({0, len(x)} | {cut for cut in cuts if cut < len(x)})
    for kernels in everywhere():
        together = multiply(kernels, weight, x, int8=int8)
        apart = [multiply(kernels, weight, x[first:last], int8=int8) for first, last in pairwise(edges)]
        assert np.array_equal(np.concatenate(apart), together), kernels.name
        assert np.array_equal(multiply(kernels, weight, x[::-1], int8=int8), together[::-1]), kernels.name


@pytest.mark.parametrize("int8", [False, True])
def test_zeros_give_zeros(int8: bool) -> None:
    weight, x = draw((40, 33, 5, 0))
    weight[7], x[3] = 0, 0
    for kernels in everywhere():
        product = multiply(kernels, weight, x, int8=int8)
        assert not product[:, 7].any()
        assert not product[3].any()
        assert product[0, 0] != 0
        assert not multiply(kernels, np.zeros_like(weight), np.zeros_like(x), int8=int8).any()


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("size", [1e-42, 1e-35, 1e-20, 1e15])
def test_the_smallest_and_the_largest_values_give_numbers(size: float, int8: bool) -> None:
    weight, x = draw((20, 50, 9, 1))
    for kernels in everywhere():
        assert np.isfinite(multiply(kernels, weight, x * np.float32(size), int8=int8)).all()
        assert np.isfinite(multiply(kernels, weight * np.float32(size), x, int8=int8)).all()


@pytest.mark.parametrize("inputs", [1024, 8192, 16_384])
def test_int8_holds_the_largest_sums(inputs: int) -> None:
    """Every product is 127 * 127; the largest official model has 8192 inputs."""
    weight, x = np.ones((18, inputs), np.float32), np.ones((3, inputs), np.float32)
    weight[1::2] = -1
    x[1] = -1
    expected = int8_product(weight, x)
    np.testing.assert_allclose(np.abs(expected), inputs, rtol=1e-6)
    for kernels in everywhere():
        assert np.array_equal(multiply(kernels, weight, x, int8=True), expected), kernels.name


def test_the_names_are_known_and_the_last_runs_anywhere() -> None:
    names = [kernels.name for kernels in all_kernels(1)]
    assert names[-1] == "generic"
    assert set(names) <= {"avx512_amx", "avx512_vnni", "avx2_vnni", "avx2", "neon_dot", "generic"}
    assert len(set(names)) == len(names)
