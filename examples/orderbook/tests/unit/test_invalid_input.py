"""A client's mistake is answered, changes nothing, and never stops the engine."""

import pytest

from orderbook import Accepted, NewOrder, Quote, Reason, Rejected, ReplaceOrder, Side


@pytest.mark.parametrize("price", [0, -1, 100.5, "100", None, True])
def test_a_bad_price_is_rejected(engine, price):
    events = engine.process([NewOrder(1, Side.BUY, price, 5)])
    assert events == [Rejected(1, Reason.BAD_PRICE)]
    assert engine.book.orders == {}


@pytest.mark.parametrize("quantity", [0, -5, 1.0, "5", None, True])
def test_a_bad_quantity_is_rejected(engine, quantity):
    events = engine.process([NewOrder(1, Side.SELL, 100, quantity)])
    assert events == [Rejected(1, Reason.BAD_QUANTITY)]
    assert engine.book.orders == {}


def test_an_id_that_is_in_the_book_is_rejected(engine):
    engine.process([NewOrder(1, Side.BUY, 100, 5)])
    assert engine.process([NewOrder(1, Side.BUY, 101, 5)]) == [Rejected(1, Reason.DUPLICATE_ORDER)]
    assert engine.quote == Quote(100, 5, None, 0)


@pytest.mark.parametrize(
    ("price", "quantity", "reason"),
    [(0, 5, Reason.BAD_PRICE), (100, 0, Reason.BAD_QUANTITY)],
)
def test_a_bad_replace_leaves_the_order_as_it_was(engine, price, quantity, reason):
    engine.process([NewOrder(1, Side.BUY, 100, 5)])
    assert engine.process([ReplaceOrder(1, price, quantity)]) == [Rejected(1, reason)]
    assert engine.quote == Quote(100, 5, None, 0)


def test_the_rest_of_a_packet_is_handled_after_a_mistake(engine):
    events = engine.process([NewOrder(1, Side.BUY, 0, 5), NewOrder(2, Side.BUY, 100, 5)])
    assert events[:2] == [Rejected(1, Reason.BAD_PRICE), Accepted(2)]


def test_something_that_is_no_message_is_a_fault_of_the_caller(engine):
    with pytest.raises(TypeError, match="not a message for the engine"):
        engine.process(["buy 5 at 100"])
