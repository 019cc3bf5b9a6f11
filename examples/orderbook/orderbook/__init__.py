"""A limit order book with price-time priority, and the engine that matches orders against it."""

from orderbook.book import OrderBook
from orderbook.engine import MatchingEngine
from orderbook.events import Accepted, Cancelled, Quote, Reason, Rejected, Replaced, Trade
from orderbook.order import CancelOrder, NewOrder, Order, ReplaceOrder, Side

__all__ = [
    "Accepted",
    "CancelOrder",
    "Cancelled",
    "MatchingEngine",
    "NewOrder",
    "Order",
    "OrderBook",
    "Quote",
    "Reason",
    "Rejected",
    "ReplaceOrder",
    "Replaced",
    "Side",
    "Trade",
]
