"""What every store with leases keeps: the contract of `gatesync.stores.leases.KeepsLeases`."""

import asyncio
from typing import Protocol

from gatesync.stores.leases import KeepsLeases, Lease

LONG = 3600.0


class LeaseBench(Protocol):
    """A store without any lease yet, and its clock."""

    store: KeepsLeases

    async def let_run_out(self, name: str) -> None:
        """So much time goes by that a lease of `LONG` seconds has run out."""


class LeaseContract:
    """A subclass gives a fixture `bench`."""

    async def test_a_free_lease_is_had_by_who_asks(self, bench: LeaseBench) -> None:
        lease = await bench.store.acquire_lease("rsync", "a", LONG)
        assert (lease.name, lease.holder) == ("rsync", "a")
        assert await bench.store.renew_lease(lease, LONG)

    async def test_others_are_told_who_holds_it(self, bench: LeaseBench) -> None:
        mine = await bench.store.acquire_lease("rsync", "a", LONG)
        assert await bench.store.acquire_lease("rsync", "b", LONG) == mine
        assert not await bench.store.renew_lease(Lease("rsync", "b", mine.term), LONG)
        await bench.store.release_lease(Lease("rsync", "b", mine.term))
        assert await bench.store.renew_lease(mine, LONG)

    async def test_asking_twice_is_asking_once(self, bench: LeaseBench) -> None:
        first = await bench.store.acquire_lease("rsync", "a", LONG)
        assert await bench.store.acquire_lease("rsync", "a", LONG) == first

    async def test_leases_of_other_names_are_others(self, bench: LeaseBench) -> None:
        for name in ("rsync", "Rsync", "rsync ", "x" * 255, "/srv/Größe"):
            assert (await bench.store.acquire_lease(name, name[:9], LONG)).holder == name[:9]

    async def test_what_was_given_up_is_free_at_once(self, bench: LeaseBench) -> None:
        mine = await bench.store.acquire_lease("rsync", "a", LONG)
        await bench.store.release_lease(mine)
        await bench.store.release_lease(mine)
        assert not await bench.store.renew_lease(mine, LONG)
        theirs = await bench.store.acquire_lease("rsync", "b", LONG)
        assert theirs.holder == "b"
        assert theirs.term > mine.term

    async def test_who_comes_back_to_what_it_gave_up_has_a_new_term(
        self, bench: LeaseBench
    ) -> None:
        mine = await bench.store.acquire_lease("rsync", "a", LONG)
        await bench.store.release_lease(mine)
        again = await bench.store.acquire_lease("rsync", "a", LONG)
        assert again.term > mine.term
        assert not await bench.store.renew_lease(mine, LONG)

    async def test_one_that_ran_out_moves_and_does_not_come_back(self, bench: LeaseBench) -> None:
        mine = await bench.store.acquire_lease("rsync", "a", LONG)
        await bench.let_run_out("rsync")
        theirs = await bench.store.acquire_lease("rsync", "b", LONG)
        assert theirs.holder == "b"
        assert theirs.term > mine.term
        assert not await bench.store.renew_lease(mine, LONG)
        assert await bench.store.acquire_lease("rsync", "a", LONG) == theirs

    async def test_who_woke_late_sees_that_somebody_had_it_and_left(
        self, bench: LeaseBench
    ) -> None:
        mine = await bench.store.acquire_lease("rsync", "a", LONG)
        await bench.let_run_out("rsync")
        await bench.store.release_lease(await bench.store.acquire_lease("rsync", "b", LONG))
        assert not await bench.store.renew_lease(mine, LONG)

    async def test_one_that_ran_out_and_nobody_wanted_is_still_mine(
        self, bench: LeaseBench
    ) -> None:
        mine = await bench.store.acquire_lease("rsync", "a", LONG)
        await bench.let_run_out("rsync")
        assert await bench.store.renew_lease(mine, LONG)
        assert await bench.store.acquire_lease("rsync", "b", LONG) == mine

    async def test_of_those_who_ask_at_once_one_gets_it(self, bench: LeaseBench) -> None:
        names = [f"host-{number}" for number in range(8)]
        answers = await asyncio.gather(
            *(bench.store.acquire_lease("rsync", each, LONG) for each in names)
        )
        assert len(set(answers)) == 1

    async def test_renewing_what_never_was_is_no(self, bench: LeaseBench) -> None:
        assert not await bench.store.renew_lease(Lease("rsync", "a", 1), LONG)
        await bench.store.release_lease(Lease("rsync", "a", 1))
