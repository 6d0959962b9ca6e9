"""How gunicorn serves the demo: ``gunicorn -c project/gunicorn.conf.py``.

Threads, because an upload is a connection that is open for long and works little; and
because of all gunicorn's workers, those with plain sockets lose nothing of what had
arrived when a connection breaks.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import signal
import socket
import struct
import sys
import threading
from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

wsgi_app = "project.wsgi:application"
chdir = str(Path(__file__).resolve().parent.parent)

bind = f"{os.environ.get('ADDRESS', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"
worker_class = "resumable_uploads.workers.WarmThreadWorker"
workers = int(os.environ.get("WEB_WORKERS", "2"))
threads = int(os.environ.get("WEB_THREADS", "32"))

# Between two chunks of one client, the connection stays open.
keepalive = 75
# Counts a worker that hangs as a whole, never one long request in a thread.
timeout = 60
# Uploads that are under way at a stop end when they next look at the line, a second
# later at most (IDLE_FLUSH). What takes longer than this is cut.
graceful_timeout = int(os.environ.get("GRACEFUL_TIMEOUT", "10"))
limit_request_line = 8190

# Connections that a process has at once, idle ones included; more wait in the kernel.
worker_connections = 2000
# Seconds that a client may be silent: within the head of a request, or within a body
# that Django reads (uploads have STALL_TIMEOUT for that). gunicorn would wait for ever.
SILENCE = int(os.environ.get("SILENCE_TIMEOUT", "20"))
# Seconds that a connection on which nothing has been said is left to the kernel, which
# needs next to nothing for it: gunicorn's first look at one holds a thread for 5 s.
UNSPOKEN = 300

# The heartbeat's file is touched all the time: better in memory than on a busy disk.
# gunicorn makes a file of its own there.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # nosec B108
# Nobody uses it here, and it would be one file in the home folder for all sites.
control_socket_disable = True


class Log(Logger):
    """An access log without queries and referrers: signed addresses are in them.

    And no traceback for a client that has fallen silent.
    """

    def atoms(self, *args):
        found = super().atoms(*args)
        method, _, target = found["r"].partition(" ")
        path = target.partition("?")[0].split(" ")[0]
        return found | {"r": f"{method} {path}", "f": "-", "q": ""}

    def exception(self, msg, *args, **kwargs):
        if isinstance(sys.exc_info()[1], BlockingIOError):
            self.info("A client was silent for %s s, and was hung up on.", SILENCE)
        else:
            super().exception(msg, *args, **kwargs)


accesslog = os.environ.get("ACCESS_LOG") or None
logger_class = Log
loglevel = os.environ.get("GUNICORN_LOG_LEVEL", "info")


def when_ready(server) -> None:
    """Let the kernel keep silent clients from threads; what it accepts inherits this.

    Who says a word from time to time is beyond it: that is what nginx is for.
    """
    for listener in server.LISTENERS:
        sock = listener.sock
        patience = struct.pack("@ll", SILENCE, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        if hasattr(socket, "TCP_DEFER_ACCEPT") and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, UNSPOKEN)


# Of mallopt, as glibc has it.
_ARENA_MAX = -8


def post_fork(server: Arbiter, worker: Worker) -> None:
    """Let threads share what memory they free, instead of keeping it each for itself.

    What MALLOC_ARENA_MAX=2 does, which would have to be set before the start.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 2)


def post_worker_init(worker: Worker) -> None:
    """At a stop, have uploads end at once: what has come is kept, and clients told.

    gunicorn itself would wait for their ends, and then cut them off.
    """
    # What is loaded by now stays: no request is to wait while it is searched for waste.
    gc.collect()
    gc.freeze()
    end = signal.getsignal(signal.SIGTERM)

    def stop(number, frame):
        _stop_reading()
        end(number, frame)

    signal.signal(signal.SIGTERM, stop)
    signal.siginterrupt(signal.SIGTERM, False)


def _stop_reading() -> None:
    # Where this file is read, the site's folder is not yet among those of modules.
    importlib.import_module("resumable_uploads.sources").stop_reading()


def worker_int(worker: Worker) -> None:
    """After Ctrl-C, give requests two seconds to end by themselves.

    gunicorn would wait for its threads as long as their clients send; an upload that is
    cut here is resumed after the next start.
    """
    _stop_reading()
    end = threading.Timer(2, os._exit, args=[0])
    end.daemon = True
    end.start()
