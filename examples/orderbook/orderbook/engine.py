"""The matching engine: messages in, events out, no clock and no randomness."""

from collections.abc import Iterable

from orderbook.book import OrderBook
from orderbook.events import Accepted, Cancelled, Event, Quote, Reason, Rejected, Replaced, Trade
from orderbook.order import CancelOrder, Message, NewOrder, Order, ReplaceOrder


class MatchingEngine:
    """Matches by price, then time. A client's mistake gets a `Rejected`, never an exception."""

    def __init__(self) -> None:
        self.book = OrderBook()
        self.quote = Quote(None, 0, None, 0)
        self._handlers = {
            NewOrder: self._new,
            CancelOrder: self._cancel,
            ReplaceOrder: self._replace,
        }

    def process(self, packet: Iterable[Message]) -> list[Event]:
        """Handle the messages of one packet in order, and publish each change of the quote."""
        events: list[Event] = []
        for message in packet:
            handler = self._handlers.get(type(message))
            if handler is None:
                raise TypeError(f"not a message for the engine: {message!r}")
            handler(message, events)
            self._publish_quote(events)
        return events

    def _publish_quote(self, events: list[Event]) -> None:
        quote = self.book.quote()
        if quote != self.quote:
            self.quote = quote
            events.append(quote)

    def _new(self, message: NewOrder, events: list[Event]) -> None:
        reason = _fault(message)
        if reason is None and message.order_id in self.book.orders:
            reason = Reason.DUPLICATE_ORDER
        if reason is not None:
            events.append(Rejected(message.order_id, reason))
            return
        order = Order(message.order_id, message.side, message.price, message.quantity)
        events.append(Accepted(order.order_id))
        self._match(order, events)
        if order.remaining == 0:
            return
        if message.immediate:
            events.append(Cancelled(order.order_id, order.remaining))
        else:
            self.book.add(order)

    def _cancel(self, message: CancelOrder, events: list[Event]) -> None:
        order = self.book.orders.get(message.order_id)
        if order is None:
            events.append(Rejected(message.order_id, Reason.UNKNOWN_ORDER))
            return
        self.book.remove(order)
        events.append(Cancelled(order.order_id, order.remaining))

    def _replace(self, message: ReplaceOrder, events: list[Event]) -> None:
        order = self.book.orders.get(message.order_id)
        reason = Reason.UNKNOWN_ORDER if order is None else _fault(message)
        if reason is not None:
            events.append(Rejected(message.order_id, reason))
            return
        events.append(Replaced(order.order_id))
        if message.price == order.price and message.quantity <= order.remaining:
            self.book.reduce(order, order.remaining - message.quantity)
            return
        self.book.remove(order)
        order.price = message.price
        order.remaining = message.quantity
        self._match(order, events)
        if order.remaining > 0:
            self.book.add(order)

    def _match(self, taker: Order, events: list[Event]) -> None:
        """Fill `taker` from the opposite side until it is done or the next price is too far."""
        book = self.book
        opposite = book.opposite(taker.side)
        limit_rank = opposite.sign * taker.price
        while taker.remaining > 0 and opposite.ranks and opposite.ranks[-1] >= limit_rank:
            maker = opposite.best().orders[0]
            quantity = min(taker.remaining, maker.remaining)
            taker.remaining -= quantity
            events.append(Trade(taker.order_id, maker.order_id, maker.price, quantity))
            book.reduce(maker, quantity)


def _fault(message: NewOrder | ReplaceOrder) -> Reason | None:
    """What is wrong with the message's numbers, if anything."""
    if type(message.price) is not int or message.price <= 0:
        return Reason.BAD_PRICE
    if type(message.quantity) is not int or message.quantity <= 0:
        return Reason.BAD_QUANTITY
    return None
