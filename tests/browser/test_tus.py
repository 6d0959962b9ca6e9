"""tus-js-client and Uppy in a real browser."""

from __future__ import annotations

import pytest

from .clients import CHUNK, ClientContract

pytestmark = pytest.mark.once


class TestTus(ClientContract):
    client = "tus"
    options = {"chunkSize": CHUNK}
