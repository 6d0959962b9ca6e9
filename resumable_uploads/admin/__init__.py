"""The admin of uploads: what is there, what has happened, what can be done about it.

It shows rows and asks the engine; it keeps no rule of its own about when an upload may
do what.
"""

from __future__ import annotations

from .access_keys import AccessKeyAdmin, RevocationAdmin
from .deliveries import WebhookDeliveryAdmin
from .uploads import UploadSessionAdmin

__all__ = [
    "AccessKeyAdmin",
    "RevocationAdmin",
    "UploadSessionAdmin",
    "WebhookDeliveryAdmin",
]
