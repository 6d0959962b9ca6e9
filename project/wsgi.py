"""The demo project for WSGI servers: ``gunicorn -c project/gunicorn.conf.py``."""

import os

from django.core.wsgi import get_wsgi_application

from .content_type import refuse_unreadable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = refuse_unreadable(get_wsgi_application())
