from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backorder_notifier.gsm import alphabet_of, fit, plain, split, units

DEFAULT = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = "\f^{}\\[~]|€"
gsm_texts = st.text(st.sampled_from(DEFAULT + EXTENSION * 8), max_size=700)
other_texts = st.text(st.sampled_from("abc é…Жя漢字🙂👩🏽é\u0301\u200d "), max_size=400)
texts = gsm_texts | other_texts | st.text(max_size=300)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 152 + "€" * 5, 2),  # 162 septets; the escape sequence at 153 goes to the second part as a whole
        ("a" * 152 + "€" + "a" * 152, 3),  # 306 septets would be two parts, were the sequence torn
        ("ж" * 70, 1),
        ("ж" * 71, 2),
        ("ж" * 134, 2),
        ("ж" * 135, 3),
        ("🙂" * 35, 1),
        ("🙂" * 36, 2),
        ("🙂" * 67, 3),  # 134 units would be two parts, were a pair torn
        ("ç", 1),
        ("ç" * 71, 2),  # only the capital is in the alphabet
    ],
)
def test_parts_are_counted_as_networks_count_them(text: str, parts: int) -> None:
    assert len(split(text)) == parts


@pytest.mark.parametrize(
    ("text", "length"), [("abc", 3), ("€", 2), ("[x]", 5), ("ж", 1), ("ж€", 2), ("🙂", 2), ("ж🙂", 3), ("\n", 1)]
)
def test_lengths_are_septets_or_utf_16_units(text: str, length: int) -> None:
    assert units(text) == length


def codes(part: str, alphabet: str) -> list[str]:
    """As it is on the air: an escape and a character for the extension, surrogates one by one."""
    if alphabet == "gsm-7":
        return [code for character in part for code in (["ESC", character] if character in EXTENSION else [character])]
    encoded = part.encode("utf-16-be", "surrogatepass")
    return [encoded[at : at + 2].hex() for at in range(0, len(encoded), 2)]


def is_high_surrogate(code: str) -> bool:
    return len(code) == 4 and "d800" <= code < "dc00"


@given(texts)
@example("a" * 152 + "€" * 10)
@example("🙂" * 67)
def test_parts_are_the_text_and_none_is_too_long_or_torn(text: str) -> None:
    parts = split(text)
    alphabet = alphabet_of(text)
    assert "".join(parts) == text
    most = {"gsm-7": (160, 153), "ucs-2": (70, 67)}[alphabet][len(parts) > 1]
    for part in parts:
        on_air = codes(part, alphabet)
        assert len(on_air) <= most
        assert not any(code == "ESC" or is_high_surrogate(code) for code in on_air[-1:])
    assert units(text) == len(codes(text, alphabet))


@given(texts)
def test_no_part_begins_before_the_one_before_it_is_full(text: str) -> None:
    alphabet = alphabet_of(text)
    most = {"gsm-7": 153, "ucs-2": 67}[alphabet]
    parts = split(text)
    for part, following in pairwise(parts):
        assert len(codes(part + following[0], alphabet)) > most


@given(texts, st.integers(1, 4))
def test_what_fits_stays_and_what_does_not_is_cut_to_fit(text: str, most_parts: int) -> None:
    fitted = fit(text, most_parts)
    if len(split(text)) <= most_parts:
        assert fitted == text
    else:
        assert len(split(fitted)) <= most_parts
        head = fitted.partition("…" if alphabet_of(fitted) == "ucs-2" else "...")[0]
        assert text.startswith(head)


some = st.lists(st.sampled_from(["Phone", "für", "dich", "ждать", "5", "🙂🙂", "€10"]), min_size=1, max_size=30)
words = st.tuples(some, st.integers(1, 15)).map(lambda drawn: drawn[0] * drawn[1])
ends = st.sampled_from(["https://shop.example/o/1001", "1001", "https://shop.example/заказ/1"])


@given(words, ends, st.sampled_from([" ", "\n"]), st.integers(2, 4))
def test_the_link_at_the_end_of_a_text_stays(words: list[str], end: str, separator: str, most_parts: int) -> None:
    text = " ".join(words) + separator + end
    fitted = fit(text, most_parts)
    assert len(split(fitted)) <= most_parts
    assert fitted.endswith(separator + end)
    kept = fitted.removesuffix(separator + end).removesuffix("...").removesuffix("…").split()
    assert kept == words[: len(kept)]  # whole words


def test_a_longer_text_fills_the_room_it_has() -> None:
    text = "Phone X " * 100 + "https://shop.example/o/1001"
    assert 450 <= units(fit(text, 3)) <= 459


def test_an_endless_word_is_cut_between_characters() -> None:
    assert fit("x" * 500, 1) == "x" * 157 + "..."
    family = "👩\u200d👩\u200d👧"
    assert fit(family * 40, 1) == family * 8 + "…"
    assert fit("e\u0301" * 60, 1) == "e\u0301" * 34 + "…"


def test_a_link_too_long_for_the_room_is_cut_like_the_rest() -> None:
    text = "Order 1001 is late: https://shop.example/" + "o" * 300
    assert fit(text, 1) == "Order 1001 is late: https://shop.example/" + "o" * 116 + "..."


def test_typographic_characters_cost_nothing_where_they_are_all_that_is_not_gsm() -> None:
    assert plain("“Phone’s” – 2\u202f×\u00a0…") == '"Phone\'s" - 2 x ...'
    assert plain("„Телефон“ – 2") == "„Телефон“ – 2"
