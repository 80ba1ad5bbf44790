"""The README's code runs, and its tables are whole."""

import contextlib
import io
import re
from pathlib import Path

from backorder_schemas import TOPICS

README = (Path(__file__).resolve().parents[2] / "schemas" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def output_of(block: str) -> list[str]:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})  # noqa: S102
    return shown.getvalue().splitlines()


def test_the_code_shows_what_it_says() -> None:
    subscribe, versions, publish = BLOCKS
    assert output_of(subscribe) == ["3 of PHONE-X came, 2 still wait None"]
    said = [re.split(r"\s{3,}", line.removeprefix("# "))[0] for line in versions.splitlines() if line.startswith("# ")]
    assert output_of(versions) == said
    assert output_of(publish)[0].startswith("stock-received b'PHONE-X' b'{")


def test_the_table_of_topics_is_whole() -> None:
    rows = {row.split("|")[1].strip(): row for row in README.splitlines() if row.startswith("| `")}
    for topic in TOPICS.values():
        if topic.messages:
            messages = ", ".join(f"`{message.__name__}`" for message in topic.messages)
            ends = f"{', '.join(topic.producers)} | {', '.join(topic.consumers)}"
            assert rows[f"`{topic.name}`"] == f"| `{topic.name}` | {topic.key} | {messages} | {ends} |"
