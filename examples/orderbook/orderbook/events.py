"""What the engine says back: one or more events for every message."""

from enum import Enum
from typing import NamedTuple


class Reason(Enum):
    """Why a message was rejected."""

    BAD_PRICE = "price must be a whole number of ticks above zero"
    BAD_QUANTITY = "quantity must be a whole number of lots above zero"
    DUPLICATE_ORDER = "an order with this id is in the book"
    UNKNOWN_ORDER = "no order with this id is in the book"


class Accepted(NamedTuple):
    order_id: int


class Trade(NamedTuple):
    """One fill, at the price of the order that rested."""

    taker_id: int
    maker_id: int
    price: int
    quantity: int


class Cancelled(NamedTuple):
    """The order is out of the book; `quantity` is what was never filled."""

    order_id: int
    quantity: int


class Replaced(NamedTuple):
    order_id: int


class Rejected(NamedTuple):
    order_id: int
    reason: Reason


class Quote(NamedTuple):
    """The best price of each side and the quantity there; None and 0 for an empty side."""

    bid_price: int | None
    bid_quantity: int
    ask_price: int | None
    ask_quantity: int


Event = Accepted | Trade | Cancelled | Replaced | Rejected | Quote
