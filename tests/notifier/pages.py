"""Messages as their readers get them: words for a content, and what an HTML page says without its markup."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

from backorder_notifier.channel import Recipient
from backorder_notifier.content import Content, ContentLine
from backorder_notifier.kinds import Kind
from backorder_notifier.rendering import Rendered, Templates, load_templates, render

TEMPLATES: Templates = load_templates()
ORDER_URL = "https://shop.example/orders/1001?a=1&b=2"
VOID = {"meta", "br"}


def reader(**changes: Any) -> Recipient:
    given: dict[str, Any] = {
        "customer_id": "c-7",
        "email": "ada@example.org",
        "phone": None,
        "name": "Ada",
        "locale": "en",
        "timezone": "Europe/Berlin",
        "unsubscribe_token": None,
        **changes,
    }
    return Recipient(**given)


def day(number: int, month: int = 11) -> datetime:
    return datetime(2026, month, number, 12, tzinfo=UTC)


def line(**changes: Any) -> ContentLine:
    """15 ordered, 10 were there, 5 wait for November 20."""
    given: dict[str, Any] = {
        "line_no": 1,
        "sku": "PHONE-X",
        "ordered": 15,
        "waiting": 5,
        "ready": 10,
        "expected": day(20),
        **changes,
    }
    return ContentLine(**given)


def content(kind: Kind, *lines: ContentLine, **changes: Any) -> Content:
    given: dict[str, Any] = {"order_id": "1001", "order_url": ORDER_URL, **changes}
    return Content(kind=kind, lines=lines, **given)


def said(kind: Kind, *lines: ContentLine, **changes: Any) -> Rendered:
    """The message to Ada, in English unless `locale` says otherwise. What is no part of the content is an argument."""
    more = {name: changes.pop(name) for name in ("shop_name", "unsubscribe_url", "as_of") if name in changes}
    to = reader(**{name: changes.pop(name) for name in ("locale", "timezone", "name") if name in changes})
    return render(content(kind, *lines, **changes), to, TEMPLATES, **more)


def both(rendered: Rendered) -> tuple[str, str]:
    """The words of the text part and of the HTML part, spaces made even."""
    return even(rendered.text), even(Page(rendered.html).words)


def even(text: str) -> str:
    return " ".join(text.split())


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parents: list["Element"]
    words: str = ""

    @property
    def style(self) -> dict[str, str]:
        pairs = (part.partition(":") for part in self.attributes.get("style", "").split(";") if part.strip())
        return {name.strip(): value.strip() for name, _, value in pairs}


@dataclass
class Page(HTMLParser):
    """An HTML page. Fails where elements are not closed in order."""

    html: str
    words: str = ""
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[Element] = []
        self.feed(self.html)
        self.close()
        assert not self.open, f"not closed: {[element.tag for element in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice: {attrs}"
        element = Element(tag, {name: value or "" for name, value in attrs}, list(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)
        if tag not in {"bdi", "b", "span", "a"}:
            self.words += " "

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop().tag == tag, f"</{tag}> closes another"
        if tag not in {"bdi", "b", "span", "a"}:
            self.words += " "

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else None
        if inside is not None and inside.tag not in {"style", "title"}:
            self.words += data
        for element in self.open:
            element.words += data

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    @property
    def links(self) -> list[str]:
        return [element.attributes["href"] for element in self.all("a")]
