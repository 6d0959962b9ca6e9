"""Telling how far an upload is while its bytes come, and ending one that is stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from .. import errors, hooks
from ..body import Body
from ..models import UploadSession
from .ending import stop

P = ParamSpec("P")
T = TypeVar("T")
Door = Callable[Concatenate[UploadSession, int, Body, P], T]


def watched(door: Door[P, T]) -> Door[P, T]:
    """Have the project told of what comes through a door, if it wants to know.

    The door also raises Stopped then; nothing is kept of an upload that is stopped.
    """

    @wraps(door)
    def watched_door(
        upload: UploadSession,
        place: int,
        body: Body,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        body.watch = hooks.watch(upload)
        if body.watch is None:
            return door(upload, place, body, *args, **kwargs)
        try:
            return door(upload, place, body, *args, **kwargs)
        except errors.Stopped as refusal:
            # Not before the door has closed what it had opened.
            stop(upload, refusal)
            raise
        finally:
            body.watch = None

    return watched_door
