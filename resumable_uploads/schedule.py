"""When beat sends which task: to be read by settings, so it imports none of them."""

from __future__ import annotations

from datetime import timedelta

BEAT_SCHEDULE = {
    "resumable-uploads-resend": {
        "task": "resumable_uploads.resend",
        "schedule": timedelta(seconds=30),
    },
    "resumable-uploads-purge": {
        "task": "resumable_uploads.purge",
        "schedule": timedelta(minutes=10),
    },
    "resumable-uploads-sweep": {
        "task": "resumable_uploads.sweep",
        "schedule": timedelta(hours=6),
    },
}
