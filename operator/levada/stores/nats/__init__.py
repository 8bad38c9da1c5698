"""Bus, triggers and online features over NATS (nats-py)."""

from levada.stores.nats.bus import NatsBus, open_bus
from levada.stores.nats.online import NatsOnlineFeatures, open_online
from levada.stores.nats.triggers import NatsTriggers, open_triggers

__all__ = ["NatsBus", "NatsOnlineFeatures", "NatsTriggers", "open_bus", "open_online", "open_triggers"]
