"""What a shop says of itself in every message: the file shop.toml in its folder of templates."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from backorder_notifier.cleaning import safe_url
from backorder_notifier.errors import ConfigurationError


def _web_address(url: str) -> str:
    if safe_url(url) is None:
        raise ValueError("should begin with https:// or http://")
    return url


class Shop(BaseModel):
    """`contact`: where customers of an order without a page turn to. `imprint`: lines below every mail."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contact: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    feedback_url: Annotated[str, AfterValidator(_web_address)] | None = None
    imprint: Annotated[tuple[str, ...], Field(max_length=20)] = ()


def read_shop(path: Path) -> Shop:
    """The shop as the file says, or as if it said nothing where there is none. Raises ConfigurationError."""
    if not path.is_file():
        return Shop()
    try:
        return Shop.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = [f"{path}: {problem['loc'][0]}: {problem['msg']}" for problem in error.errors()]
        raise ConfigurationError("\n".join(problems)) from None
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigurationError(f"{path}: {error}") from None
