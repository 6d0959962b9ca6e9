"""What `make run` does before the demo is served: ``python -m project.prepare``."""

import os
import secrets
from pathlib import Path

import django
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command

ADMIN = "admin"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
    print(f"Everything is kept in {settings.DATA_DIR}")
    call_command("migrate", interactive=False, verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    print(admin_line(settings.DATA_DIR / "admin_password"))


def admin_line(path: Path) -> str:
    """Make the demo's admin user where there is none; say how to log in."""
    users = get_user_model().objects.filter(username=ADMIN)
    if not users.exists():
        _make_admin(path)
    user = users.get()
    password = path.read_text().strip() if path.exists() else ""
    if password and user.check_password(password):
        return f"Admin: user {ADMIN}, password {password}  (kept in {path})"
    return f"Admin: user {ADMIN}, with the password you gave it"


def _make_admin(path: Path) -> None:
    password = secrets.token_urlsafe(9)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(password + "\n")
    get_user_model().objects.create_superuser(ADMIN, password=password)


if __name__ == "__main__":
    main()
