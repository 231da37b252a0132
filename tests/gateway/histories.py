"""What happens to stores: backups, truncated logs, forks."""

import copy

from gatesync.stores.memory import MemoryStore


def backup_of(store: MemoryStore) -> MemoryStore:
    """A store as this one is now, with a life of its own: the same epoch."""
    made = MemoryStore(store.epoch)
    for name, value in vars(store).items():
        if name != "_lock":
            setattr(made, name, copy.deepcopy(value))
    return made
