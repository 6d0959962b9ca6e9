"""The sentences of the browser's widget, to be translated with the rest of the app.

The English ones are those of static/resumable_uploads/messages.js, as a test checks.
"""

from __future__ import annotations

from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

SENTENCES = {
    # The markup.
    "upload_files": _("Upload files"),
    "choose_files": _("Choose files"),
    "choose_file": _("Choose a file"),
    "choose_folder": _("Choose a folder"),
    "take_photo": _("Take a photo"),
    "drop_files": _("or drop them here"),
    "drop_file": _("or drop it here"),
    "unfinished_title": _("Unfinished uploads"),
    "unfinished_hint": _(
        "Choose the same file again, and the upload continues where it stopped."
    ),
    "all_files": _("All files"),
    "progress_all": _("Progress of all files"),
    "retry_all": _("Try all again"),
    "cancel_all": _("Cancel all"),
    "clear_finished": _("Clear finished"),
    "files": _("Files"),
    # States.
    "queued": _("Waiting for its turn"),
    "preparing": _("Preparing"),
    "uploading": _("Uploading"),
    "waiting": _("Interrupted, goes on by itself"),
    "paused": _("Paused"),
    "processing": _("Processing"),
    "complete": _("Complete"),
    "failed": _("Failed"),
    "cancelled": _("Cancelled"),
    # Numbers.
    "amount": _("{sent} of {size}"),
    "speed": _("{speed}/s"),
    "time_left": _("{time} left"),
    "files_complete": _("Files complete: {complete} of {files}"),
    "continued": _("continued at {received}"),
    "limit_size": _("Up to {max} per file."),
    "limit_types": _("Accepted: {allowed}."),
    "limit_files": _("At most {max} files."),
    # Buttons.
    "pause": _("Pause"),
    "resume": _("Resume"),
    "retry": _("Try again"),
    "retry_now": _("Try now"),
    "cancel": _("Cancel"),
    "remove": _("Remove"),
    "clear": _("Clear"),
    "download": _("Download"),
    "delete": _("Delete"),
    "discard": _("Discard"),
    "choose_again": _("Choose the file"),
    "pause_all": _("Pause all"),
    "resume_all": _("Resume all"),
    "action_on": _("{action}: {name}"),
    "progress_of": _("Progress: {name}"),
    # The line.
    "offline": _("There is no network. The uploads go on when it is back."),
    "line_down": _("The server cannot be reached. Next try in {seconds} s."),
    "line_trying": _("The server cannot be reached. Trying again."),
    # Unfinished uploads.
    "unfinished_amount": _("{received} of {size} are already there"),
    "unfinished_until": _("kept until {date}"),
    "other_file": _(
        "“{chosen}” is not the file “{wanted}”. It is uploaded as a new one."
    ),
    "not_deleted": _("“{name}” could not be deleted. {reason}"),
    "not_discarded": _("“{name}” could not be discarded. {reason}"),
    # The form that the files belong to.
    "form_waits": _("The form is sent as soon as all files are uploaded."),
    "form_stopped": _(
        "Not all files are uploaded. Try them again, or remove them, and send the form."
    ),
    "form_required": _("Please choose a file."),
    # Questions.
    "confirm_cancel": _("Cancel “{name}” and discard what has been uploaded of it?"),
    "confirm_cancel_all": _(
        "Cancel all unfinished uploads and discard what has been uploaded?"
    ),
    "confirm_delete": _("Delete “{name}” from the server?"),
    "confirm_discard": _("Discard what has been uploaded of “{name}”?"),
    # Files that are not taken.
    "refused_too_large": _(
        "“{name}” is too large: {size}, and at most {max} are allowed."
    ),
    "refused_too_small": _(
        "“{name}” is too small: {size}, and at least {min} are needed."
    ),
    "refused_empty": _("“{name}” is empty."),
    "refused_type_not_allowed": _("“{name}” is not of an accepted type ({allowed})."),
    "refused_too_many_files": _("“{name}” was left out: at most {max} files."),
    "refused_already_listed": _("“{name}” is already in the list."),
    "refused": _("“{name}” was not accepted. {detail}"),
    "refused_more": _("Files that were not accepted besides these: {count}."),
    # Why an upload waits or failed; what the server says itself comes first.
    "error": _("Something went wrong ({code})."),
    "error_network": _("The connection was lost."),
    "error_stalled": _("The connection stood still."),
    "error_redirected": _(
        "The server asks you to sign in again, perhaps in another tab."
    ),
    "error_unexpected_answer": _("Something other than the server answered."),
    "error_unreadable": _("The file was changed, moved or removed. Choose it again."),
    "error_not_authenticated": _("Please sign in again, perhaps in another tab."),
    "error_other_tab": _(
        "Another tab is uploading this file. It goes on here when that one stops."
    ),
    "error_gone": _("The server no longer has this upload."),
    "error_assembly_failed": _("The server could not put the file together."),
    "error_too_large": _("The file is too large."),
    "error_picture_too_small": _(
        "The picture is too small: {width} × {height} pixels."
    ),
    "error_picture_too_large": _(
        "The picture is too large: {width} × {height} pixels."
    ),
    "error_http_413": _(
        "A server on the way does not let pieces of this size through."
    ),
    "error_http_500": _("The server has an error."),
    "error_http_502": _("The server cannot be reached at the moment."),
    "error_http_503": _("The server cannot be reached at the moment."),
    "error_http_504": _("The server cannot be reached at the moment."),
    # What a screen reader says.
    "said_added": _("{name}: added."),
    "said_percent": _("{percent} percent uploaded."),
    "said_complete": _("{name}: complete."),
    "said_failed": _("{name}: failed. {reason}"),
    "said_waiting": _("Interrupted. The upload goes on by itself."),
    "said_paused": _("{name}: paused."),
    "said_resumed": _("{name}: continued at {received}."),
    "said_cancelled": _("{name}: cancelled."),
    "said_deleted": _("{name}: deleted."),
    "said_all_complete": _("All uploads are complete."),
}


def messages() -> dict[str, str]:
    """Return the sentences in the active language; nothing where that is English."""
    if (get_language() or "en").partition("-")[0] == "en":
        return {}
    return {key: str(sentence) for key, sentence in SENTENCES.items()}
