"""Orders, and the messages that clients send about them.

Prices are whole ticks and quantities whole lots, so that nothing is ever rounded.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Side(Enum):
    BUY = "buy"
    SELL = "sell"


@dataclass(slots=True, eq=False)
class Order:
    """An order as the book holds it; `remaining` shrinks with every fill."""

    order_id: int
    side: Side
    price: int
    remaining: int


class NewOrder(NamedTuple):
    """Trade up to `price`. What is left then rests in the book, or is dropped if `immediate`."""

    order_id: int
    side: Side
    price: int
    quantity: int
    immediate: bool = False


class CancelOrder(NamedTuple):
    order_id: int


class ReplaceOrder(NamedTuple):
    """Change a resting order. Only less at the same price keeps its place in the queue."""

    order_id: int
    price: int
    quantity: int


Message = NewOrder | CancelOrder | ReplaceOrder
