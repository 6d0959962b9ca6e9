/**
 * Every sentence the widget says, in English; a page may bring others (texts.py brings
 * those of its language). `{...}` are filled in.
 */

export const MESSAGES = Object.freeze({
  // The markup.
  upload_files: "Upload files",
  choose_files: "Choose files",
  choose_file: "Choose a file",
  choose_folder: "Choose a folder",
  take_photo: "Take a photo",
  drop_files: "or drop them here",
  drop_file: "or drop it here",
  unfinished_title: "Unfinished uploads",
  unfinished_hint: "Choose the same file again, and the upload continues where it stopped.",
  all_files: "All files",
  progress_all: "Progress of all files",
  retry_all: "Try all again",
  cancel_all: "Cancel all",
  clear_finished: "Clear finished",
  files: "Files",

  // States.
  queued: "Waiting for its turn",
  preparing: "Preparing",
  uploading: "Uploading",
  waiting: "Interrupted, goes on by itself",
  paused: "Paused",
  processing: "Processing",
  complete: "Complete",
  failed: "Failed",
  cancelled: "Cancelled",

  // Numbers.
  amount: "{sent} of {size}",
  speed: "{speed}/s",
  time_left: "{time} left",
  files_complete: "Files complete: {complete} of {files}",
  continued: "continued at {received}",
  limit_size: "Up to {max} per file.",
  limit_types: "Accepted: {allowed}.",
  limit_files: "At most {max} files.",

  // Buttons.
  pause: "Pause",
  resume: "Resume",
  retry: "Try again",
  retry_now: "Try now",
  cancel: "Cancel",
  remove: "Remove",
  clear: "Clear",
  download: "Download",
  delete: "Delete",
  discard: "Discard",
  choose_again: "Choose the file",
  pause_all: "Pause all",
  resume_all: "Resume all",
  action_on: "{action}: {name}",
  progress_of: "Progress: {name}",

  // The line.
  offline: "There is no network. The uploads go on when it is back.",
  line_down: "The server cannot be reached. Next try in {seconds} s.",
  line_trying: "The server cannot be reached. Trying again.",

  // Unfinished uploads.
  unfinished_amount: "{received} of {size} are already there",
  unfinished_until: "kept until {date}",
  other_file: "“{chosen}” is not the file “{wanted}”. It is uploaded as a new one.",
  not_deleted: "“{name}” could not be deleted. {reason}",
  not_discarded: "“{name}” could not be discarded. {reason}",

  // The form that the files belong to.
  form_waits: "The form is sent as soon as all files are uploaded.",
  form_stopped: "Not all files are uploaded. Try them again, or remove them, and send the form.",
  form_required: "Please choose a file.",

  // Questions.
  confirm_cancel: "Cancel “{name}” and discard what has been uploaded of it?",
  confirm_cancel_all: "Cancel all unfinished uploads and discard what has been uploaded?",
  confirm_delete: "Delete “{name}” from the server?",
  confirm_discard: "Discard what has been uploaded of “{name}”?",

  // Files that are not taken.
  refused_too_large: "“{name}” is too large: {size}, and at most {max} are allowed.",
  refused_too_small: "“{name}” is too small: {size}, and at least {min} are needed.",
  refused_empty: "“{name}” is empty.",
  refused_type_not_allowed: "“{name}” is not of an accepted type ({allowed}).",
  refused_too_many_files: "“{name}” was left out: at most {max} files.",
  refused_already_listed: "“{name}” is already in the list.",
  refused: "“{name}” was not accepted. {detail}",
  refused_more: "Files that were not accepted besides these: {count}.",

  // Why an upload waits or failed; what the server says itself comes first.
  error: "Something went wrong ({code}).",
  error_network: "The connection was lost.",
  error_stalled: "The connection stood still.",
  error_redirected: "The server asks you to sign in again, perhaps in another tab.",
  error_unexpected_answer: "Something other than the server answered.",
  error_unreadable: "The file was changed, moved or removed. Choose it again.",
  error_not_authenticated: "Please sign in again, perhaps in another tab.",
  error_other_tab: "Another tab is uploading this file. It goes on here when that one stops.",
  error_gone: "The server no longer has this upload.",
  error_assembly_failed: "The server could not put the file together.",
  error_too_large: "The file is too large.",
  error_picture_too_small: "The picture is too small: {width} × {height} pixels.",
  error_picture_too_large: "The picture is too large: {width} × {height} pixels.",
  error_http_413: "A server on the way does not let pieces of this size through.",
  error_http_500: "The server has an error.",
  error_http_502: "The server cannot be reached at the moment.",
  error_http_503: "The server cannot be reached at the moment.",
  error_http_504: "The server cannot be reached at the moment.",

  // What a screen reader says.
  said_added: "{name}: added.",
  said_percent: "{percent} percent uploaded.",
  said_complete: "{name}: complete.",
  said_failed: "{name}: failed. {reason}",
  said_waiting: "Interrupted. The upload goes on by itself.",
  said_paused: "{name}: paused.",
  said_resumed: "{name}: continued at {received}.",
  said_cancelled: "{name}: cancelled.",
  said_deleted: "{name}: deleted.",
  said_all_complete: "All uploads are complete.",
});
