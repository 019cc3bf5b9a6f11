"""Order flow for the benches: made before the clock starts, the same in every process.

A packet is what one network read would bring. One in `BURST_EVERY` is a burst: bursts are the tail
of these benches by design, so p99 tells of the engine's work under a burst, and not of how quiet
the machine was.
"""

from collections import deque
from itertools import count
from random import Random

from orderbook import CancelOrder, NewOrder, ReplaceOrder, Side

MID_PRICE = 10_000
LEVELS = 4
PACKET_MESSAGES = 6
BURST_MESSAGES = 18
BURST_EVERY = 33

Packet = list[NewOrder | CancelOrder | ReplaceOrder]


def _passive(random: Random, order_id: int) -> NewOrder:
    """An order that rests one to `LEVELS` ticks from the middle, so two of them never cross."""
    side = Side.BUY if random.random() < 0.5 else Side.SELL
    distance = 1 + int(LEVELS * random.random() ** 2)
    price = MID_PRICE - distance if side is Side.BUY else MID_PRICE + distance
    return NewOrder(order_id, side, price, 5 + int(20 * random.random()))


def _aggressive(random: Random, order_id: int) -> NewOrder:
    """An order that takes what it can across the whole book and leaves nothing behind."""
    side = Side.BUY if random.random() < 0.5 else Side.SELL
    price = MID_PRICE + LEVELS if side is Side.BUY else MID_PRICE - LEVELS
    return NewOrder(order_id, side, price, 5 + int(20 * random.random()), immediate=True)


def _sizes(random: Random, packets: int) -> list[int]:
    """Messages per packet."""
    return [
        BURST_MESSAGES if random.random() * BURST_EVERY < 1 else PACKET_MESSAGES
        for _ in range(packets)
    ]


def match_flow(seed: int, resting: int, packets: int) -> tuple[Packet, list[Packet]]:
    """An opening book, and packets of orders: some rest, some trade, the oldest are cancelled.

    A cancel may come after its order was filled, as in real life; the engine then rejects it.
    """
    random, ids = Random(seed), count(1)
    live: deque[int] = deque()

    def rest() -> NewOrder:
        live.append(order_id := next(ids))
        return _passive(random, order_id)

    def message() -> NewOrder | CancelOrder:
        if len(live) > resting:
            return CancelOrder(live.popleft())
        return rest() if random.random() < 0.7 else _aggressive(random, next(ids))

    opening = [rest() for _ in range(resting)]
    return opening, [[message() for _ in range(size)] for size in _sizes(random, packets)]


def cancel_replace_flow(seed: int, resting: int, packets: int) -> tuple[Packet, list[Packet]]:
    """An opening book, and packets of a market maker's upkeep: replace, cancel, add, no trade."""
    random, ids = Random(seed), count(1)
    live: list[NewOrder] = []

    def rest() -> NewOrder:
        live.append(order := _passive(random, next(ids)))
        return order

    def message() -> NewOrder | CancelOrder | ReplaceOrder:
        if len(live) < resting:
            return rest()
        spot = int(len(live) * random.random())
        order = live[spot]
        action = random.random()
        if action < 0.3:
            live[spot] = live[-1]
            live.pop()
            return CancelOrder(order.order_id)
        if action < 0.6 and order.quantity > 1:
            live[spot] = order._replace(quantity=order.quantity - 1)
        else:
            moved = _passive(random, order.order_id)
            distance = abs(moved.price - MID_PRICE)
            price = MID_PRICE - distance if order.side is Side.BUY else MID_PRICE + distance
            live[spot] = order._replace(price=price, quantity=moved.quantity)
        return ReplaceOrder(order.order_id, live[spot].price, live[spot].quantity)

    opening = [rest() for _ in range(resting)]
    return opening, [[message() for _ in range(size)] for size in _sizes(random, packets)]
