"""Bus and online features over NATS (nats-py)."""

from levada.stores.nats.bus import NatsBus, open_bus
from levada.stores.nats.online import NatsOnlineFeatures, open_online

__all__ = ["NatsBus", "NatsOnlineFeatures", "open_bus", "open_online"]
