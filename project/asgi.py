"""The demo project for ASGI servers.

Django reads a request's whole body before a view runs there, so an upload that is cut
off loses the request in progress. Prefer ``project.wsgi`` under gunicorn.
"""

import os

from django.core.asgi import get_asgi_application

from .content_type import refuse_unreadable_async

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = refuse_unreadable_async(get_asgi_application())
