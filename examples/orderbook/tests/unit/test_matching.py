"""Who trades with whom, at what price, and how much."""

import pytest

from orderbook import Accepted, Cancelled, NewOrder, Order, Quote, Side, Trade

BUY, SELL = Side.BUY, Side.SELL


def trades(events) -> list[Trade]:
    return [event for event in events if isinstance(event, Trade)]


def test_an_order_on_an_empty_book_rests(engine):
    events = engine.process([NewOrder(1, BUY, 100, 5)])
    assert events == [Accepted(1), Quote(100, 5, None, 0)]


def test_orders_that_do_not_cross_do_not_trade(engine):
    events = engine.process([NewOrder(1, BUY, 99, 5), NewOrder(2, SELL, 100, 5)])
    assert trades(events) == []
    assert engine.quote == Quote(99, 5, 100, 5)


def test_equal_prices_trade(engine):
    events = engine.process([NewOrder(1, SELL, 100, 5), NewOrder(2, BUY, 100, 5)])
    assert trades(events) == [Trade(taker_id=2, maker_id=1, price=100, quantity=5)]
    assert engine.quote == Quote(None, 0, None, 0)


@pytest.mark.parametrize(
    ("side", "makers", "limit", "expected"),
    [
        (BUY, [(1, 102), (2, 101), (3, 103)], 103, [(2, 101), (1, 102), (3, 103)]),
        (SELL, [(1, 102), (2, 103), (3, 101)], 101, [(2, 103), (1, 102), (3, 101)]),
    ],
)
def test_the_best_price_trades_first_at_the_makers_price(engine, side, makers, limit, expected):
    other = SELL if side is BUY else BUY
    engine.process([NewOrder(order_id, other, price, 1) for order_id, price in makers])
    events = engine.process([NewOrder(9, side, limit, 3)])
    assert [(trade.maker_id, trade.price) for trade in trades(events)] == expected


def test_at_one_price_the_oldest_order_trades_first(engine):
    engine.process([NewOrder(order_id, SELL, 100, 2) for order_id in (7, 3, 5)])
    events = engine.process([NewOrder(9, BUY, 100, 5)])
    assert trades(events) == [Trade(9, 7, 100, 2), Trade(9, 3, 100, 2), Trade(9, 5, 100, 1)]


def test_a_partly_filled_maker_keeps_its_place(engine):
    engine.process([NewOrder(1, SELL, 100, 5), NewOrder(2, SELL, 100, 5)])
    engine.process([NewOrder(3, BUY, 100, 2)])
    events = engine.process([NewOrder(4, BUY, 100, 4)])
    assert trades(events) == [Trade(4, 1, 100, 3), Trade(4, 2, 100, 1)]


def test_what_a_taker_cannot_fill_rests_at_its_limit(engine):
    engine.process([NewOrder(1, SELL, 100, 2)])
    events = engine.process([NewOrder(2, BUY, 101, 5)])
    assert events == [Accepted(2), Trade(2, 1, 100, 2), Quote(101, 3, None, 0)]


def test_a_limit_stops_a_taker_before_a_worse_price(engine):
    engine.process([NewOrder(1, SELL, 100, 1), NewOrder(2, SELL, 102, 1)])
    events = engine.process([NewOrder(3, BUY, 101, 2)])
    assert trades(events) == [Trade(3, 1, 100, 1)]
    assert engine.quote == Quote(101, 1, 102, 1)


def test_an_immediate_order_never_rests(engine):
    engine.process([NewOrder(1, SELL, 100, 2)])
    events = engine.process([NewOrder(2, BUY, 100, 5, immediate=True)])
    assert events == [Accepted(2), Trade(2, 1, 100, 2), Cancelled(2, 3), Quote(None, 0, None, 0)]
    assert engine.book.orders == {}


def test_a_filled_order_leaves_the_book(engine):
    engine.process([NewOrder(1, SELL, 100, 2), NewOrder(2, BUY, 100, 2)])
    assert engine.book.orders == {}
    assert engine.book.asks.ranks == []
    assert engine.book.asks.levels == {}


def test_the_book_holds_what_is_left_of_an_order(engine):
    engine.process([NewOrder(1, SELL, 100, 5), NewOrder(2, BUY, 100, 2)])
    order = engine.book.orders[1]
    assert isinstance(order, Order)
    assert (order.side, order.price, order.remaining) == (SELL, 100, 3)
