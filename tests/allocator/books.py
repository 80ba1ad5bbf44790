"""The books of a story: what must balance after every message, whatever was decided."""

from collections import Counter
from dataclasses import replace

from backorder_allocator.decision import Decision, Event
from backorder_allocator.state import Order, PoolKey, State

LineKey = tuple[str, int]
TOLD_IN_THIS_ORDER = (
    "BackorderRejected",
    "AllocationRevoked",
    "BackorderCreated",
    "BackorderCancelled",
    "BackorderFilled",
    "AllocationReleased",
)


class Books:
    """Sums over all events of a story, as a subscriber who has nothing else can make them."""

    def __init__(self) -> None:
        self.waiting: Counter[LineKey] = Counter()
        self.released: Counter[LineKey] = Counter()
        """And not revoked, or shipped without a release."""
        self.on_hand: Counter[PoolKey] = Counter()
        self.versions: Counter[tuple[str, str]] = Counter()

    def close(self, before: State, decision: Decision) -> None:
        """Take in one message's decision and see that all sums agree with the state after it."""
        last_told: dict[LineKey, int] = {}
        for event in decision.events:
            self._note(event)
            if event.kind.__name__ in TOLD_IN_THIS_ORDER:
                place = TOLD_IN_THIS_ORDER.index(event.kind.__name__)
                for line in lines_of(event):
                    assert place >= last_told.get(line, 0), f"{event.kind.__name__} of {line} is told too late"
                    last_told[line] = place
        for movement in decision.movements:
            self.on_hand[movement.key.pool] += movement.quantity
        for order in decision.state.orders.values():
            earlier = before.orders.get(order.order_id)
            for number, now in order.lines.items():
                known = earlier.lines.get(number) if earlier else None
                self.on_hand[now.pool] -= now.shipped - (known.shipped if known else 0)
        self._agree_with_lines(decision.state)
        self._agree_with_pools(decision.state)
        see_that_the_store_is_told(before, decision)

    def _note(self, event: Event) -> None:
        version = event.version
        if event.topic == "stock-alerts":
            assert version == 0
            version = self.versions[event.topic, event.key] + 1
        fields = event.fields
        # A subscriber would read it: every event is a message of the contract.
        event.kind(id="1", occurred_at=event.now, version=version, epoch=1, caused_by=event.caused_by, **fields)
        assert version == self.versions[event.topic, event.key] + 1
        self.versions[event.topic, event.key] = version
        for line in lines_of(event):
            match event.kind.__name__:
                case "BackorderCreated":
                    self.waiting[line] += fields["quantity"]
                    assert self.waiting[line] == fields["quantity_waiting"]
                case "BackorderFilled" | "BackorderCancelled":
                    self.waiting[line] -= fields["quantity"]
                    assert self.waiting[line] == fields["quantity_waiting"]
                case "AllocationReleased":
                    self.released[line] += sum(each.quantity for each in fields["lines"] if each.line_no == line[1])
                case "AllocationRevoked" if fields["release_no"] is not None:
                    self.released[line] -= fields["quantity"]
                case "ShipmentMismatch":
                    self.released[line] += fields["quantity"]
                case _:
                    pass

    def _agree_with_lines(self, state: State) -> None:
        for order in state.orders.values():
            for line in order.lines.values():
                units = (line.allocated, line.waiting, line.cancelled, line.rejected)
                assert sum(units) == line.ordered
                assert min(*units, line.held, line.allocated - line.shipped) >= 0
                name = (order.order_id, line.line_no)
                assert line.waiting == self.waiting[name]
                assert line.allocated == self.released[name] + line.held

    def _agree_with_pools(self, state: State) -> None:
        lines = [line for order in state.orders.values() for line in order.lines.values()]
        for key, pool in state.pools.items():
            assert pool.on_hand == self.on_hand[key]
            assert pool.allocated == sum(line.allocated - line.shipped for line in lines if line.pool == key)
            assert pool.allocated <= max(0, pool.on_hand), "sold what is not there"
            assert pool.waiting == sum(line.waiting for line in lines if line.pool == key)
            assert not (pool.waiting and pool.available), "somebody waits though there is stock"


def lines_of(event: Event) -> list[LineKey]:
    fields = event.fields
    if "order_id" not in fields:
        return []
    numbers = [each.line_no for each in fields["lines"]] if "lines" in fields else [fields["line_no"]]
    return [(fields["order_id"], number) for number in numbers]


def see_that_the_store_is_told(before: State, decision: Decision) -> None:
    """Every row that is another one after the message is among those that are written."""
    after = decision.state
    told_lines = decision.new_lines.keys() | decision.changed_lines.keys()
    for order_id, order in after.orders.items():
        known = before.orders.get(order_id)
        if order != known:
            for number, line in order.lines.items():
                assert (order_id, number) in told_lines or (known and line == known.lines.get(number))
            if known is None:
                assert order_id in decision.new_orders
            elif row_of(order) != row_of(known):
                assert order_id in decision.new_orders or order_id in decision.changed_orders
    assert {key for key, pool in after.pools.items() if pool != before.pools.get(key)} <= decision.pools.keys()
    assert {key for key, each in after.supplies.items() if each != before.supplies.get(key)} <= decision.supplies.keys()
    assert {sku for sku, each in after.policies.items() if each != before.policies.get(sku)} <= decision.policies.keys()


def row_of(order: Order) -> Order:
    """The order without what has rows of its own."""
    return replace(order, lines={}, early_cancels=(), early_shipments=())
