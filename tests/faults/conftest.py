"""The same worlds as the end-to-end tests have, and a shop at rest for the checkers."""

from tests.e2e.conftest import migrated, world
from tests.faults.checked import shop_at_rest

__all__ = ["migrated", "shop_at_rest", "world"]
