"""The topics in Kafka: what is missing, what differs, and making what is missing. Partitions are never changed."""

import asyncio
from dataclasses import dataclass
from time import monotonic

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from backorder_allocator.errors import NotReadyError
from backorder_schemas import TOPICS, Topic

APPEARS_WITHIN_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic of the contract beside what Kafka has. `differences` are sentences."""

    name: str
    """With prefix."""
    topic: Topic
    partitions: int | None
    """None: it doesn't exist."""
    differences: tuple[str, ...] = ()


def is_ours(topic: Topic) -> bool:
    """Whether the allocator reads or writes the topic."""
    return "allocator" in topic.producers or "allocator" in topic.consumers


async def compare(admin: AIOKafkaAdminClient, prefix: str) -> list[TopicState]:
    """Every topic of the contract as it is in Kafka."""
    names = {prefix + topic.name: topic for topic in TOPICS.values()}
    described = {
        each["topic"]: len(each["partitions"])
        for each in await admin.describe_topics(list(names))
        if not each["error_code"]
    }
    configs = await _configs(admin, list(described))
    return [
        TopicState(name, topic, described.get(name), _differences(topic, described.get(name), configs.get(name, {})))
        for name, topic in names.items()
    ]


async def create(admin: AIOKafkaAdminClient, missing: list[TopicState], replication: int) -> None:
    """Make topics that don't exist. One that another process made meanwhile is fine."""
    wanted = [
        NewTopic(state.name, state.topic.partitions, replication, topic_configs=state.topic.kafka_config())
        for state in missing
    ]
    answer = await admin.create_topics(wanted)
    for name, code, *text in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise NotReadyError(f"Kafka did not make topic {name}: {error.__name__} {text[0] if text else ''}".strip())


async def until_all_exist(admin: AIOKafkaAdminClient, prefix: str) -> list[TopicState]:
    """Compare until no topic is missing, for some seconds: a broker shows a new topic a little after it was made."""
    deadline = monotonic() + APPEARS_WITHIN_SECONDS
    while True:
        states = await compare(admin, prefix)
        if all(state.partitions is not None for state in states) or monotonic() > deadline:
            return states
        await asyncio.sleep(0.1)


async def _configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }


def _differences(topic: Topic, partitions: int | None, config: dict[str, str]) -> tuple[str, ...]:
    if partitions is None:
        return ("does not exist",)
    found = []
    if partitions != topic.partitions:
        found.append(f"has {partitions} partitions where {topic.partitions} are usual; they are never changed")
    found.extend(
        f"{name} is {config[name]} where {wanted} is meant"
        for name, wanted in topic.kafka_config().items()
        if name in config and config[name] != wanted
    )
    return tuple(found)
