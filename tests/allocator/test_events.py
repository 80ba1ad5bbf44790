"""What every event is given: an id that is the same wherever it is made, whatever its key is made of."""

from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from backorder_allocator.events import NAMESPACE, event_id

TEXT = st.text(st.characters(codec="utf-8"), max_size=200)


@given(st.integers(1, 2**31), TEXT, TEXT, st.integers(1, 2**63))
def test_an_id_is_the_uuid_of_version_5_of_epoch_topic_key_and_version(
    epoch: int, topic: str, key: str, version: int
) -> None:
    found = event_id(epoch, topic, key, version)
    expected = uuid5(NAMESPACE, f"{epoch}\n{topic}\n{key}\n{version}")
    assert found == expected
    assert str(found) == str(expected)
    assert isinstance(found, UUID)
