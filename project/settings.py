"""The demo's settings: a laptop by default, production by environment variables.

Everything that is kept lies under DATA_DIR. docs/environment.md lists the variables.
"""

import os
from pathlib import Path

from . import environment

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("DATA_DIR") or BASE_DIR / "var").resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)

SECRET_KEY = environment.secret_key(DATA_DIR)
DEBUG = environment.flag("DEBUG")
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = environment.words("CSRF_TRUSTED_ORIGINS")

if environment.flag("BEHIND_HTTPS_PROXY"):
    # Only where a front server always sets this header itself: a client that can send
    # it through would be believed.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "resumable_uploads",
]

if environment.flag("METRICS"):
    # For Prometheus, at /metrics/: let the front server keep everybody else away.
    INSTALLED_APPS.append("resumable_uploads.metrics")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "project.security.ContentSecurityPolicy",
    # What stands below is left out for bytes that need no session to be judged.
    "resumable_uploads.protocols.lean.DataRequests",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "project.languages.Languages",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# No cookie of their own, whose signer would be made for each request.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
ASGI_APPLICATION = "project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": environment.database(os.environ["DATABASE_URL"])
    if os.environ.get("DATABASE_URL")
    else environment.sqlite(DATA_DIR / "db.sqlite3"),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Django's own sessions in the database, looked up in a fifth of the time.
SESSION_ENGINE = "resumable_uploads.sessions"
# Sessions hold visitors' uploads together, so they outlive RECORDS_EXPIRE_IN.
SESSION_COOKIE_AGE = 60 * 60 * 24 * 30

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"

LANGUAGE_CODE = "en"
LANGUAGES = [
    ("en", "English"),
    ("de", "Deutsch"),
    ("es", "Español"),
    ("fr", "Français"),
    ("zh-hans", "简体中文"),
]
TIME_ZONE = os.environ.get("TIME_ZONE", "UTC")
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
# The clients of others that the demo shows, where `make clients` has put them.
NPM = BASE_DIR / "node_modules"
NPM_FOLDERS = [
    (f"npm/{name}", NPM / folder)
    for name, folder in {
        "ali-oss": "ali-oss/dist",
        "fine-uploader": "fine-uploader/fine-uploader",
        "flow.js": "@flowjs/flow.js/dist",
        "resumablejs": "resumablejs",
        "simple-uploader.js": "simple-uploader.js/dist",
        "tus-js-client": "tus-js-client/dist",
        "uppy": "uppy/dist",
    }.items()
    if (NPM / folder).is_dir()
]
STATICFILES_DIRS = [BASE_DIR / "static", *NPM_FOLDERS]
# Before `collectstatic` has run, static files come from where they are written.
WHITENOISE_USE_FINDERS = DEBUG or not STATIC_ROOT.is_dir()

MEDIA_ROOT = DATA_DIR / "media"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}

REDIS_URL = os.environ.get("REDIS_URL", "")
if REDIS_URL:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": REDIS_URL,
        },
    }

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL") or REDIS_URL or None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TIMEZONE = TIME_ZONE
# A task that was taken by a worker that died is given to another one.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A broker that is down costs the request that would send a task seconds, not minutes.
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 2, "socket_timeout": 5}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.2}

RESUMABLE_UPLOADS = {
    "RUNNER": os.environ.get("RUNNER") or ("celery" if CELERY_BROKER_URL else "inline"),
    # Visitors get back what they sent: the demo would be dull without it.
    # To tus clients without cookies, the URL of an upload is key enough.
    "POLICIES": {"default": {"downloadable": True, "capability_urls": True}},
    "BUCKETS": {"demo-bucket": {"policy": "default"}},
    # Behind nginx: X-Accel-Redirect, so that it sends the files itself.
    "SENDFILE": os.environ.get("SENDFILE") or None,
    "SENDFILE_ROOT": os.environ.get("SENDFILE_ROOT", "/protected/"),
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
    ],
    # Each upload's policy says who may upload; nobody sees what is another one's.
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Resumable uploads",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "resumable_uploads.protocols.openapi.add_mounted",
    ],
}

# The console is the log, whatever DEBUG says: lines of text, or of JSON. No record has
# more than one line but for a traceback, and none has a secret; docs/operations.md.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "resumable_uploads.logs.LineFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        },
        "json": {"()": "resumable_uploads.logs.JsonFormatter"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "json" if os.environ.get("LOG_FORMAT") == "json" else "plain",
        },
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": ["console"], "level": "INFO", "propagate": False},
        "django.server": {"propagate": False},
        "resumable_uploads": {"level": os.environ.get("LOG_LEVEL", "INFO")},
    },
}
