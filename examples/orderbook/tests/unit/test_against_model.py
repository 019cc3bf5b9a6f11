"""Long random flow, checked against a model too simple to be wrong: one list, always sorted."""

from random import Random

import pytest

from orderbook import (
    CancelOrder,
    MatchingEngine,
    NewOrder,
    Quote,
    ReplaceOrder,
    Side,
    Trade,
)


class Model:
    """Resting orders as `[order_id, side, price, remaining]` in order of arrival."""

    def __init__(self) -> None:
        self.resting: list[list] = []

    def ranked(self, side: Side) -> list[list]:
        orders = [order for order in self.resting if order[1] is side]
        return sorted(orders, key=lambda order: -order[2] if side is Side.BUY else order[2])

    def new(
        self, order_id: int, side: Side, price: int, quantity: int, immediate: bool
    ) -> list[Trade]:
        trades = []
        for maker in self.ranked(Side.SELL if side is Side.BUY else Side.BUY):
            within = maker[2] <= price if side is Side.BUY else maker[2] >= price
            filled = min(quantity, maker[3]) if within else 0
            if filled:
                trades.append(Trade(order_id, maker[0], maker[2], filled))
                maker[3] -= filled
                quantity -= filled
        self.resting = [order for order in self.resting if order[3]]
        if quantity and not immediate:
            self.resting.append([order_id, side, price, quantity])
        return trades

    def find(self, order_id: int) -> list | None:
        return next((order for order in self.resting if order[0] == order_id), None)

    def cancel(self, order_id: int) -> list[Trade]:
        self.resting = [order for order in self.resting if order[0] != order_id]
        return []

    def replace(self, order_id: int, price: int, quantity: int) -> list[Trade]:
        order = self.find(order_id)
        if order is None:
            return []
        if price == order[2] and quantity <= order[3]:
            order[3] = quantity
            return []
        self.cancel(order_id)
        return self.new(order_id, order[1], price, quantity, immediate=False)

    def apply(self, message) -> list[Trade]:
        match message:
            case NewOrder():
                return self.new(*message)
            case CancelOrder():
                return self.cancel(*message)
            case ReplaceOrder():
                return self.replace(*message)

    def quote(self) -> Quote:
        best = []
        for side in (Side.BUY, Side.SELL):
            ranked = self.ranked(side)
            price = ranked[0][2] if ranked else None
            best += [price, sum(order[3] for order in ranked if order[2] == price)]
        return Quote(*best)


def random_message(random: Random, order_id: int):
    price, quantity = random.randint(95, 105), random.randint(1, 20)
    some_id = random.randint(max(1, order_id - 40), order_id)
    match random.choice(["new", "new", "new", "cancel", "replace"]):
        case "new":
            side = random.choice([Side.BUY, Side.SELL])
            return NewOrder(order_id, side, price, quantity, immediate=random.random() < 0.3)
        case "cancel":
            return CancelOrder(some_id)
        case _:
            return ReplaceOrder(some_id, price, quantity)


@pytest.mark.parametrize("seed", range(5))
def test_the_engine_agrees_with_the_model(seed):
    random, engine, model = Random(seed), MatchingEngine(), Model()
    for order_id in range(1, 600):
        message = random_message(random, order_id)
        events = engine.process([message])
        assert [event for event in events if isinstance(event, Trade)] == model.apply(message)
        assert engine.quote == model.quote()
        assert engine.book.orders.keys() == {order[0] for order in model.resting}
