"""The engine and short spellings for the unit tests."""

import pytest

from orderbook import MatchingEngine


@pytest.fixture
def engine() -> MatchingEngine:
    return MatchingEngine()
