"""What one packet costs: every sample is one packet, timed alone."""

import pytest
from flow import Packet, cancel_replace_flow, match_flow

from orderbook import MatchingEngine

ROUNDS = 2600  # p99 is judged on 20 samples beyond it or more, also when a tenth is left out in slices
WARMUP_ROUNDS = 150
RESTING_ORDERS = 64


def _bench(benchmark, opening: Packet, packets: list[Packet]) -> None:
    engine = MatchingEngine()
    engine.process(opening)
    upcoming = iter(packets)
    benchmark.pedantic(
        engine.process,
        setup=lambda: ((next(upcoming),), {}),
        rounds=ROUNDS,
        warmup_rounds=WARMUP_ROUNDS,
        iterations=1,
    )


@pytest.mark.parametrize("resting", [RESTING_ORDERS])
def test_match(benchmark, resting):
    _bench(benchmark, *match_flow(seed=7, resting=resting, packets=WARMUP_ROUNDS + ROUNDS))


@pytest.mark.parametrize("resting", [RESTING_ORDERS])
def test_cancel_replace(benchmark, resting):
    _bench(
        benchmark, *cancel_replace_flow(seed=11, resting=resting, packets=WARMUP_ROUNDS + ROUNDS)
    )
