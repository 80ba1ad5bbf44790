"""The outage of `outage.py`, some seconds long, with one process of each service."""

from pathlib import Path

import pytest

from backorder_local.place import place as make_place
from backorder_local.processes import port_or_free
from tests.faults.campaign.servers import Postgres
from tests.faults.outage import a_scene, play, servers_folder


@pytest.mark.timeout(300)
async def test_while_postgresql_is_away_nothing_is_lost_and_all_is_worked_off_when_it_is_back(
    kafka: str, unique: str, tmp_path: Path
) -> None:
    with servers_folder() as folder, make_place(folder / "servers") as place:
        postgres = Postgres(place, port_or_free(0, "PostgreSQL", ""))
        await postgres.start()
        try:
            async with a_scene(kafka, postgres, unique, tmp_path) as scene:
                print(await play(scene, seconds=5, rate=15, each=1, around=3, seed=2))
        finally:
            await postgres.stop(immediate=True)
