"""Settings for the tests: the demo project's, on a database of the kind in DATABASE.

Nothing of the environment but DATABASE (sqlite or postgres) has a say.
"""

import os
import tempfile

from tests import processes, services

DATABASE = os.environ.get("DATABASE", "sqlite")

for name in ("BEHIND_HTTPS_PROXY", "CELERY_BROKER_URL", "REDIS_URL", "RUNNER"):
    os.environ.pop(name, None)
# Each process has its own; the run's folder is removed with all of them.
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="data-", dir=processes.run_dir())
os.environ["SECRET_KEY"] = "the tests keep no secrets"
if DATABASE == "postgres":
    os.environ["DATABASE_URL"] = services.PostgreSQL.shared().url("site")
else:
    os.environ.pop("DATABASE_URL", None)

# Some tests send tasks, as a site with a broker does.
import project.celery  # noqa: E402, F401
from project.settings import *  # noqa: E402, F403
from project.settings import DATA_DIR, DATABASES, MIDDLEWARE  # noqa: E402

if DATABASE == "sqlite":
    # A file, not the usual database in memory: threads have to race for real.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
# Threads of a test open connections; left open, they would keep the database busy.
DATABASES["default"]["CONN_MAX_AGE"] = 0

# Another way to the same database, for tests of sites that send uploads elsewhere.
DATABASES["elsewhere"] = DATABASES["default"] | {"TEST": {"MIRROR": "default"}}

MIDDLEWARE = [name for name in MIDDLEWARE if not name.startswith("whitenoise.")]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage",
    },
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGGING_CONFIG = None
