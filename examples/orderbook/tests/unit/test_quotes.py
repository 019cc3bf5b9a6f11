"""A quote follows each change of the best price or the quantity resting there, and nothing else."""

from orderbook import CancelOrder, NewOrder, Quote, ReplaceOrder, Side

BUY, SELL = Side.BUY, Side.SELL


def quotes(events) -> list[Quote]:
    return [event for event in events if isinstance(event, Quote)]


def test_an_empty_book_has_an_empty_quote(engine):
    assert engine.quote == Quote(None, 0, None, 0)
    assert engine.book.quote() == Quote(None, 0, None, 0)


def test_a_better_price_moves_the_quote(engine):
    events = engine.process([NewOrder(1, BUY, 100, 5), NewOrder(2, BUY, 101, 1)])
    assert quotes(events) == [Quote(100, 5, None, 0), Quote(101, 1, None, 0)]


def test_an_order_that_joins_the_best_price_adds_to_its_quantity(engine):
    engine.process([NewOrder(1, BUY, 100, 5)])
    assert quotes(engine.process([NewOrder(2, BUY, 100, 3)])) == [Quote(100, 8, None, 0)]


def test_a_partial_fill_shrinks_the_quoted_quantity(engine):
    engine.process([NewOrder(1, SELL, 100, 5)])
    assert quotes(engine.process([NewOrder(2, BUY, 100, 2)])) == [Quote(None, 0, 100, 3)]


def test_a_cancel_behind_the_first_order_shrinks_the_quoted_quantity(engine):
    engine.process([NewOrder(1, SELL, 100, 5), NewOrder(2, SELL, 100, 4)])
    assert quotes(engine.process([CancelOrder(2)])) == [Quote(None, 0, 100, 5)]


def test_a_change_away_from_the_best_price_is_not_quoted(engine):
    engine.process([NewOrder(1, BUY, 100, 5), NewOrder(2, BUY, 98, 5)])
    changes = [NewOrder(3, BUY, 99, 1), ReplaceOrder(2, 98, 4), CancelOrder(3)]
    assert quotes(engine.process(changes)) == []


def test_a_rejected_message_is_not_quoted(engine):
    assert quotes(engine.process([CancelOrder(1)])) == []
