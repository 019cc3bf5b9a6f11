"""The book: two sides of price levels, each level a queue in order of arrival."""

from bisect import bisect_left, insort
from collections import deque

from orderbook.events import Quote
from orderbook.order import Order, Side


class PriceLevel:
    """All orders that rest at one price, the oldest first."""

    __slots__ = ("orders", "price")

    def __init__(self, price: int) -> None:
        self.price = price
        self.orders: deque[Order] = deque()

    @property
    def quantity(self) -> int:
        return sum(order.remaining for order in self.orders)

    def append(self, order: Order) -> None:
        self.orders.append(order)

    def remove(self, order: Order) -> None:
        self.orders.remove(order)

    def reduce(self, order: Order, quantity: int) -> None:
        """Take `quantity` off an order of this level; with nothing left it leaves the queue."""
        order.remaining -= quantity
        if order.remaining == 0:
            self.orders.remove(order)


class BookSide:
    """The price levels of one side, the best one last, where a list grows and shrinks fastest.

    Levels are found by rank: the price for bids and its negative for asks, so that a higher rank
    is always the better price.
    """

    __slots__ = ("levels", "ranks", "sign")

    def __init__(self, side: Side) -> None:
        self.sign = 1 if side is Side.BUY else -1
        self.ranks: list[int] = []
        self.levels: dict[int, PriceLevel] = {}

    def best(self) -> PriceLevel | None:
        return self.levels[self.ranks[-1]] if self.ranks else None

    def level(self, price: int) -> PriceLevel:
        return self.levels[self.sign * price]

    def add(self, order: Order) -> None:
        rank = self.sign * order.price
        level = self.levels.get(rank)
        if level is None:
            level = self.levels[rank] = PriceLevel(order.price)
            insort(self.ranks, rank)
        level.append(order)

    def discard_if_empty(self, level: PriceLevel) -> None:
        if not level.orders:
            rank = self.sign * level.price
            del self.levels[rank]
            del self.ranks[bisect_left(self.ranks, rank)]


class OrderBook:
    """Every resting order, found by id and by price-time priority."""

    __slots__ = ("asks", "bids", "orders")

    def __init__(self) -> None:
        self.bids = BookSide(Side.BUY)
        self.asks = BookSide(Side.SELL)
        self.orders: dict[int, Order] = {}

    def side(self, side: Side) -> BookSide:
        return self.bids if side is Side.BUY else self.asks

    def opposite(self, side: Side) -> BookSide:
        return self.asks if side is Side.BUY else self.bids

    def add(self, order: Order) -> None:
        self.orders[order.order_id] = order
        self.side(order.side).add(order)

    def remove(self, order: Order) -> None:
        del self.orders[order.order_id]
        side = self.side(order.side)
        level = side.level(order.price)
        level.remove(order)
        side.discard_if_empty(level)

    def reduce(self, order: Order, quantity: int) -> None:
        """Take `quantity` off a resting order, which keeps its place in the queue."""
        side = self.side(order.side)
        level = side.level(order.price)
        level.reduce(order, quantity)
        if order.remaining == 0:
            del self.orders[order.order_id]
            side.discard_if_empty(level)

    def quote(self) -> Quote:
        bid, ask = self.bids.best(), self.asks.best()
        return Quote(
            bid.price if bid else None,
            bid.quantity if bid else 0,
            ask.price if ask else None,
            ask.quantity if ask else 0,
        )
