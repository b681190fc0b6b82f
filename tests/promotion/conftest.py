"""Fixtures with champions."""

from tests.champions import champions_root, client, repository

__all__ = ["champions_root", "client", "repository"]
