"""Benches that fail while a slice runs."""

import pytest


def failing_after(calls, error):
    """A target that goes wrong in the midst of things."""
    left = iter(range(calls))

    def target():
        if next(left, None) is None:
            raise error

    return target


def test_fails_in_a_slice(benchmark):
    benchmark.pedantic(failing_after(200, ValueError("went wrong")), rounds=10_000)


def test_skips_in_a_slice(benchmark):
    benchmark.pedantic(failing_after(200, pytest.skip.Exception("not today")), rounds=10_000)


def test_goes_on_after_it(benchmark):
    benchmark(sum, range(100))
