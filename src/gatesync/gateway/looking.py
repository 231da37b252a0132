"""A look at a node's other labels, before what one of them dropped is undeployed.

An artifact moves between two labels by two changes, and a node may hear of them in another order
than they were made in.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from gatesync.artifacts.changes import Cursor, Head
from gatesync.gateway.deployer import Deployer
from gatesync.gateway.log import LabelLog
from gatesync.stores.store import Retriever, StoreError

__all__ = ["look_elsewhere"]

LOOK_SECONDS: Final = 5.0  # then nobody can tell, and the removal counts


async def look_elsewhere(
    logs: Mapping[str, LabelLog],
    retriever: Retriever,
    deployer: Deployer,
    judge: Callable[[Head, Cursor | None], None],
) -> None:
    """Ask, whenever something is about to go, whether another label has it by now.

    Until cancelled. `judge` is told what the store said of a label, and where it stood before.
    """
    while True:
        await deployer.going.wait()
        deployer.going.clear()
        going = deployer.about_to_go()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                heads = await retriever.heads(list(logs))
                for label, head in heads.items():
                    if label in logs:
                        judge(head, logs[label].cursor)
                while not all(deployer.has_settled(head) for head in heads.values()):
                    await deployer.moved.wait()
        except (StoreError, TimeoutError):
            pass  # nobody says that it moved: the removal counts
        await deployer.let_go(going)
