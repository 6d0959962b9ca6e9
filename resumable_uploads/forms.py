"""Uploads in Django forms: a field that the uploader fills, or a plain file input.

With JavaScript the form brings the ids of uploads that are complete already; without
it brings the files themselves, and they are taken here by the same rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from . import engine, errors
from .body import Body
from .models import State, UploadSession
from .owners import Owner, owner_of
from .policies import UploadPolicy, get_policy
from .rendering import TEMPLATE, uploader_context
from .sources import StreamSource

PROTOCOL = "form"


@dataclass(frozen=True)
class Posted:
    """What a form brought for one field: ids of uploads, and files as a whole."""

    ids: tuple[str, ...] = ()
    files: tuple[UploadedFile, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ids or self.files)


class UploadInput(forms.Widget):
    """The uploader as the widget of a field; ``options`` are those of the tag."""

    needs_multipart_form = True
    request: Any = None
    # What was posted as files and is stored by now, for a form that is shown again.
    stored: tuple[UploadSession, ...] = ()

    def __init__(self, attrs: Any = None, **options: Any) -> None:
        super().__init__(attrs)
        self.options = options

    def render(
        self, name: str, value: Any, attrs: Any = None, renderer: Any = None
    ) -> SafeString:
        kept = self._known(value)
        context = uploader_context(
            _bound(self.request),
            name=name,
            required=self.is_required and not kept,
            initial=kept,
            **self.options,
        )
        return render_to_string(TEMPLATE, context, request=self.request)

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Posted:
        return Posted(tuple(filter(None, _all(data, name))), tuple(_all(files, name)))

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return name not in data and name not in files

    def use_required_attribute(self, initial: Any) -> bool:
        # The template does it, on the input that has no value yet.
        return False

    def _known(self, value: Any) -> list[UploadSession]:
        """Return what a form that is shown again has already, or begins with."""
        if isinstance(value, Posted):
            owner = owner_of(self.request)
            found = (_complete(owner, upload_id) for upload_id in value.ids)
            return [*filter(None, found), *self.stored]
        if isinstance(value, UploadSession):
            return [value]
        return list(value or ())


class UploadField(forms.Field):
    """A field whose value is an upload of the caller's, or a list of them.

    The value is an UploadSession (None where nothing was chosen), with ``multiple`` a
    list. The form has to know the request: see UploadFormMixin. A file that came
    without JavaScript may still be assembling, where a worker does that.
    """

    default_error_messages = {
        "not_yours": gettext_lazy("This upload is not there. Choose the file again."),
        "taken": gettext_lazy("This upload is in use already. Choose the file again."),
        "single": gettext_lazy("Choose one file only."),
    }

    def __init__(
        self,
        *,
        policy: str = "default",
        multiple: bool = False,
        widget: UploadInput | None = None,
        uploader: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.policy = policy
        self.multiple = multiple
        options = {"policy": policy, "multiple": multiple, **(uploader or {})}
        super().__init__(widget=widget or UploadInput(**options), **kwargs)

    def bind(self, request: Any) -> None:
        """Tell the field who asks."""
        self.widget.request = request

    def clean(self, value: Any) -> Any:
        """Return the uploads. Raise ValidationError for what cannot be taken.

        A file that was posted as a whole is stored by this, once per call.
        """
        posted = value or Posted()
        if not posted and self.required:
            raise ValidationError(self.error_messages["required"], code="required")
        if not self.multiple and len(posted.ids) + len(posted.files) > 1:
            raise ValidationError(self.error_messages["single"], code="single")
        uploads = self._uploads(posted)
        self.run_validators(uploads)
        if self.multiple:
            return uploads
        return uploads[0] if uploads else None

    def _uploads(self, posted: Posted) -> list[UploadSession]:
        policy = get_policy(self.policy)
        owner = owner_of(_bound(self.widget.request), create=policy.anonymous)
        known = [self._find(owner, upload_id) for upload_id in posted.ids]
        stored = [_received(owner, policy, file) for file in posted.files]
        self.widget.stored = tuple(stored)
        return known + stored

    def _find(self, owner: Owner, upload_id: str) -> UploadSession:
        upload = _complete(owner, upload_id)
        if upload is None or upload.policy != self.policy:
            raise ValidationError(self.error_messages["not_yours"], code="not_yours")
        if upload.claimed_at:
            raise ValidationError(self.error_messages["taken"], code="taken")
        return upload


class UploadFormMixin:
    """A form with upload fields: it takes the ``request`` as a keyword."""

    fields: dict[str, forms.Field]

    def __init__(self, *args: Any, request: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            if isinstance(field, UploadField):
                field.bind(request)


def receive(owner: Owner, policy: UploadPolicy, file: UploadedFile) -> UploadSession:
    """Take a file that a form has posted as a whole, as an upload of the owner's.

    The upload is complete, or assembling where a worker does that. Raise what opening
    and appending raise, and Rejected. Not to be called in a transaction.
    """
    new = engine.NewUpload(
        filename=file.name or "",
        length=file.size,
        content_type=file.content_type or "",
    )
    upload, _created = engine.open(owner, PROTOCOL, policy, new)
    if file.size:
        engine.append(upload, 0, Body(StreamSource(file.read, file.size)))
    upload = engine.refreshed(upload)
    if upload.state == State.REJECTED:
        raise errors.Rejected(upload.error)
    if upload.state == State.FAILED:
        raise errors.StorageUnavailable
    return upload


def claim(upload: UploadSession) -> bool:
    """Say that the file belongs to a model of yours now; False: somebody was quicker.

    Its owner cannot delete it any more, and the field takes the upload no second time.
    """
    free = UploadSession.objects.filter(pk=upload.pk, claimed_at=None)
    return bool(free.update(claimed_at=timezone.now()))


def _received(owner: Owner, policy: UploadPolicy, file: UploadedFile) -> UploadSession:
    try:
        return receive(owner, policy, file)
    except errors.UploadError as refusal:
        words = _("“%(name)s” was not accepted. %(reason)s")
        facts = {"name": file.name, "reason": refusal.message}
        raise ValidationError(words, code=refusal.code, params=facts) from refusal


def _complete(owner: Owner, upload_id: str) -> UploadSession | None:
    try:
        upload = engine.find(owner, upload_id)
    except errors.NotFound:
        return None
    return upload if upload.state == State.COMPLETE else None


def _bound(request: Any) -> Any:
    if request is None:
        raise ImproperlyConfigured(
            "The form has to know the request: let it inherit from UploadFormMixin, "
            "and make it with request=request."
        )
    return request


def _all(data: Any, name: str) -> Iterable[Any]:
    if hasattr(data, "getlist"):
        return data.getlist(name)
    value = data.get(name)
    return value if isinstance(value, list | tuple) else [value] if value else []
