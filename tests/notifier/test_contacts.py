import pytest

from backorder_notifier.contacts import is_mail_address, wire_address


@pytest.mark.parametrize("address", ["ada@example.org", "a.b+c@sub.example.co.uk", "o'hara@example.org", "a@localhost"])
def test_ordinary_addresses_are_taken(address: str) -> None:
    assert wire_address(address) == address


def test_a_domain_of_another_script_goes_out_in_ascii() -> None:
    assert wire_address("ada@bücher.example") == "ada@xn--bcher-kva.example"


@pytest.mark.parametrize(
    "address",
    [
        "", "ada", "@example.org", "ada@", "a b@example.org", "a@b@example.org", "ada@example", "ada@.org",
        "ada@example.org\r\nRCPT TO:<eve@example.org>", "ada@example.org,eve@example.org", "<ada@example.org>",
        '"ada"@example.org', "ada@[127.0.0.1]", "ada@exa mple.org", "ada@-example.org", "a" * 65 + "@example.org",
        "=?utf-8?q?=0D=0AX-Evil=3A=20x=40y.z?=@example.org",
        "ada\u202e@example.org", "ada@example.org\u0000", "ädä@example.org", "ada@example..org", ".ada@example.org",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    assert not is_mail_address(address)
