"""Taking an order back, and changing one."""

from orderbook import (
    Cancelled,
    CancelOrder,
    NewOrder,
    Quote,
    Reason,
    Rejected,
    Replaced,
    ReplaceOrder,
    Side,
    Trade,
)

BUY, SELL = Side.BUY, Side.SELL


def makers_hit(engine, side: Side, price: int, quantity: int) -> list[tuple[int, int]]:
    """The makers and quantities that an order of `side` trades with."""
    events = engine.process([NewOrder(999, side, price, quantity, immediate=True)])
    return [(event.maker_id, event.quantity) for event in events if isinstance(event, Trade)]


def test_a_cancelled_order_is_gone(engine):
    engine.process([NewOrder(1, BUY, 100, 5)])
    assert engine.process([CancelOrder(1)]) == [Cancelled(1, 5), Quote(None, 0, None, 0)]
    assert makers_hit(engine, SELL, 100, 5) == []


def test_a_cancel_reports_only_what_was_not_filled(engine):
    engine.process([NewOrder(1, BUY, 100, 5), NewOrder(2, SELL, 100, 2)])
    assert Cancelled(1, 3) in engine.process([CancelOrder(1)])


def test_a_cancel_from_the_middle_of_a_queue_leaves_the_others_in_order(engine):
    engine.process([NewOrder(order_id, BUY, 100, 1) for order_id in (1, 2, 3)])
    engine.process([CancelOrder(2)])
    assert makers_hit(engine, SELL, 100, 3) == [(1, 1), (3, 1)]


def test_cancelling_the_best_level_uncovers_the_next(engine):
    engine.process([NewOrder(1, SELL, 101, 1), NewOrder(2, SELL, 100, 1)])
    engine.process([CancelOrder(2)])
    assert engine.quote == Quote(None, 0, 101, 1)


def test_a_cancel_of_an_unknown_or_filled_order_is_rejected(engine):
    engine.process([NewOrder(1, BUY, 100, 1), NewOrder(2, SELL, 100, 1)])
    assert engine.process([CancelOrder(1), CancelOrder(77)]) == [
        Rejected(1, Reason.UNKNOWN_ORDER),
        Rejected(77, Reason.UNKNOWN_ORDER),
    ]


def test_replacing_with_less_keeps_the_place_in_the_queue(engine):
    engine.process([NewOrder(1, SELL, 100, 5), NewOrder(2, SELL, 100, 5)])
    assert engine.process([ReplaceOrder(1, 100, 2)]) == [Replaced(1), Quote(None, 0, 100, 7)]
    assert makers_hit(engine, BUY, 100, 3) == [(1, 2), (2, 1)]


def test_replacing_with_more_goes_to_the_end_of_the_queue(engine):
    engine.process([NewOrder(1, SELL, 100, 5), NewOrder(2, SELL, 100, 5)])
    engine.process([ReplaceOrder(1, 100, 6)])
    assert makers_hit(engine, BUY, 100, 7) == [(2, 5), (1, 2)]


def test_replacing_the_price_goes_to_the_end_of_the_new_queue(engine):
    engine.process([NewOrder(1, SELL, 100, 1), NewOrder(2, SELL, 101, 1)])
    engine.process([ReplaceOrder(1, 101, 1)])
    assert makers_hit(engine, BUY, 101, 2) == [(2, 1), (1, 1)]


def test_a_replace_that_crosses_trades(engine):
    engine.process([NewOrder(1, BUY, 99, 5), NewOrder(2, SELL, 100, 2)])
    events = engine.process([ReplaceOrder(1, 100, 5)])
    assert events == [Replaced(1), Trade(1, 2, 100, 2), Quote(100, 3, None, 0)]


def test_a_replace_that_fills_leaves_nothing_behind(engine):
    engine.process([NewOrder(1, BUY, 99, 2), NewOrder(2, SELL, 100, 2)])
    engine.process([ReplaceOrder(1, 100, 2)])
    assert engine.book.orders == {}
    assert engine.quote == Quote(None, 0, None, 0)


def test_a_replace_of_an_unknown_order_is_rejected(engine):
    assert engine.process([ReplaceOrder(5, 100, 1)]) == [Rejected(5, Reason.UNKNOWN_ORDER)]
