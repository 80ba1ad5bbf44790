"""The same worlds as the end-to-end tests have."""

from tests.e2e.conftest import migrated, world

__all__ = ["migrated", "world"]
