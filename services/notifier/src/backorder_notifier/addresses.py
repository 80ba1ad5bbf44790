"""Which addresses a webhook may reach: those of the internet, and the networks that were allowed. Pure.

Whoever chooses a webhook's URL, or what its name resolves to, must not make this service talk to what only it can
reach: other services of the cluster, the cloud's metadata, itself.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import httpx

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Beyond what `ipaddress` knows of as not global, which differs between releases of Python.
_NEVER: Final[tuple[Network, ...]] = (
    ip_network("168.63.129.16/32"),  # a public address that is the host below every machine in one large cloud
    ip_network("192.0.0.0/24"),  # protocols; another cloud's metadata
    ip_network("192.88.99.0/24"),  # 6to4 relays, deprecated
    ip_network("2001::/23"),  # protocols; Teredo, which leads to an IPv4 address of its sender's choice
    ip_network("3fff::/20"),  # documents
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to (mapped, NAT64, 6to4), else the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address.sixtofour is not None:
            return address.sixtofour
    return address


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    real = embedded(address)
    return any(each in network for each in (address, real) for network in networks if each.version == network.version)


def is_public(address: Address) -> bool:
    """An address of the internet: not private, loopback, link-local, multicast, shared, reserved or for documents."""
    real = embedded(address)
    # A scope (fe80::1%2) names an interface of this machine.
    if isinstance(real, IPv6Address) and (real.scope_id is not None or real not in _GLOBAL_UNICAST):
        return False
    return (
        real.is_global
        and not (real.is_private or real.is_multicast or real.is_reserved)
        and not is_within(real, _NEVER)
    )


def may_reach(address: Address, allowed: Sequence[Network], *, encrypted: bool) -> bool:
    """Clear text goes to allowed networks alone."""
    return is_within(address, allowed) or (encrypted and is_public(address))


def webhook_url(text: str, allowed: Sequence[Network] = ()) -> str:
    """Reads NOTIFIER_WEBHOOK_URL. Raises ValueError with a text that repeats nothing of it: URLs hold secrets.

    A name is looked up when something is sent, each time anew.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise ValueError("is not a URL such as https://shop.example.org/webhooks") from None
    if url.scheme not in {"https", "http"} or not url.host or url.userinfo or url.fragment:
        raise ValueError("should be https://host/path")
    if url.scheme == "http" and not allowed:
        raise ValueError(
            "http:// is clear text and only for networks in NOTIFIER_WEBHOOK_ALLOWED_NETWORKS: use https://"
        )
    try:
        address = ip_address(url.host)
    except ValueError:
        return text
    if not may_reach(address, allowed, encrypted=url.scheme == "https"):
        raise ValueError("leads to an address that is not public: see NOTIFIER_WEBHOOK_ALLOWED_NETWORKS")
    return text
