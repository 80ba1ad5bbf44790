"""Whose a dead letter is: pure. It may be anything, also broken JSON, and is looked at as bytes."""

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from backorder_notifier.contacts import suppression_keys
from backorder_notifier.privacy_store import Address, Addressed, Letter


@dataclass(frozen=True, slots=True)
class About:
    """What to look for. `addresses` are in lower case."""

    customer_id: str
    order_ids: frozenset[str]
    addresses: frozenset[str]


def about_customer(customer_id: str, named: Iterable[Addressed]) -> About:
    named = list(named)
    addresses = {text.lower() for each in named for text in (each.email, each.phone) if text}
    addresses |= {address for _, address in addresses_of(named)}
    # What nobody would call an address is not looked for: an "email" of "x" is in every letter.
    addresses = {each for each in addresses if len(each) > (5 if "@" in each else 7)}
    return About(customer_id, frozenset(each.order_id for each in named if each.order_id), frozenset(addresses))


def addresses_of(named: Iterable[Addressed]) -> list[Address]:
    return sorted({key for each in named for key in suppression_keys(each.email, each.phone)})


def domains_of(named: Collection[Addressed]) -> list[str]:
    """Those of their mail addresses, in both spellings. A domain may be a person's own."""
    emails = [each.email.lower() for each in named if each.email] + [key for _, key in addresses_of(named)]
    return sorted({email.rpartition("@")[2] for email in emails if "@" in email})


def concerns(letter: Letter, about: About) -> bool:
    """Whether a dead letter is about this customer: by whom it names, or by an address anywhere in it.

    It may be anything, also broken JSON: looked at as bytes. Only `orders` and `customers` carry contact data, so in
    other topics only an address counts: whoever drives those again needs them.
    """
    key, value = letter.key or b"", letter.value or b""
    named = key.decode(errors="replace")
    if letter.topic == "customers" and (named == about.customer_id or about.customer_id in _said(value, "customer_id")):
        return True
    if letter.topic == "orders" and (
        named in about.order_ids
        or about.customer_id in _said(value, "customer_id")
        or not about.order_ids.isdisjoint(_said(value, "order_id"))
    ):
        return True
    places = [key, value, *(each for each in letter.header_values if each)]
    return any(_holds(place, about.addresses) for place in places)


_STRING: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*"'


def _said(value: bytes, field: str) -> Iterator[str]:
    """The texts that JSON, whole or broken, gives a field anywhere in it."""
    for found in re.finditer(rb'"%b"\s*:\s*(%b)' % (field.encode(), _STRING), value, re.DOTALL):
        yield from _unquoted(found[1])


def _unquoted(text: bytes) -> Iterator[str]:
    try:
        yield json.loads(text.decode(errors="replace"), strict=False)
    except ValueError:
        return


def _holds(place: bytes, addresses: Collection[str]) -> bool:
    """Whether one of the addresses is in it, as it is or in escapes of JSON, but not as a part of a longer one."""
    lower = place.lower()  # of ASCII alone: as it is for nearly every address
    texts = [lower.decode(errors="replace")]
    texts += [
        text.lower()
        for found in re.finditer(_STRING, place, re.DOTALL)
        if b"\\" in found[0]
        for text in _unquoted(found[0])
    ]
    return any(
        address in text and re.search(rf"(?<![\w.+-]){re.escape(address)}(?![\w-]|\.\w)", text)
        for address in addresses
        for text in texts
    ) or any(address.encode(encoding) in lower for address in addresses for encoding in ("utf-16-le", "utf-16-be"))
