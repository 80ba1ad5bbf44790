"""The servers that all other tests lean on are real ones."""

import aiosmtplib
import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.conftest import Databases, MailSink


async def test_kafka_gives_back_what_it_took(kafka: str, unique: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.split(","))
    await admin.start()
    await admin.create_topics([NewTopic(f"{unique}orders", 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka.split(",")) as producer:
        await producer.send_and_wait(f"{unique}orders", b"hello")
    consumer = AIOKafkaConsumer(
        f"{unique}orders", bootstrap_servers=kafka.split(","), group_id=unique, auto_offset_reset="earliest"
    )
    async with consumer:
        assert (await consumer.getone()).value == b"hello"


async def test_a_database_made_from_a_template_has_its_tables(postgres: Databases) -> None:
    template = postgres.create_database()
    connection = await asyncpg.connect(template)
    await connection.execute("CREATE TABLE stock (sku text)")
    await connection.close()
    connection = await asyncpg.connect(postgres.create_database(template))
    assert await connection.fetch("SELECT * FROM stock") == []
    await connection.close()


async def test_the_mail_sink_takes_mails_or_answers_what_a_test_wants(mail_sink: MailSink) -> None:
    mail_sink.reset()
    mail = "Subject: Wir liefern später\r\n\r\nÜbermorgen\r\n".encode()

    async def send() -> None:
        await aiosmtplib.send(
            mail, hostname="127.0.0.1", port=mail_sink.port, sender="shop@example.org", recipients=["ada@example.org"]
        )

    mail_sink.handler.refuse = lambda _envelope: "451 4.3.0 Try again later"
    with pytest.raises(aiosmtplib.SMTPDataError, match="Try again later"):
        await send()
    assert mail_sink.messages == []
    mail_sink.reset()
    await send()
    assert [kept.recipients for kept in mail_sink.messages_to("ADA@example")] == [("ada@example.org",)]
