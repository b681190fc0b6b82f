"""Addresses as they may be shown."""

import re

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def redacted(address: str) -> str:
    """A URL without the credentials, query and fragment that it may carry; anything else as it is."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    authority, slash, path = re.split("[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def redacted_text(text: str) -> str:
    """A message without the credentials of the URLs in it."""
    return _CREDENTIALS.sub("", text)
