"""The process that emulates AWS (SNS, SQS, S3 and SES). It is the only process that imports moto."""

from __future__ import annotations

import argparse
import logging
import os
import threading
from functools import partial

from sandbox.child_processes import report_to_parent, watch_parent


def main() -> None:
    """Serves the emulated AWS on a port, prints that port as one line of JSON, and runs until standard input closes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--unpatched", action="store_true", help="run moto without the patches that make it fast and thread-safe"
    )
    chosen = parser.parse_args()
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "sandbox")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "sandbox")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    watch_parent(partial(os._exit, 0))  # also ends this process while the server waits for a port
    from moto.server import ThreadedMotoServer

    from sandbox.aws.queue_setup import serve_queue_setup

    serve_queue_setup()
    if not chosen.unpatched:
        from sandbox.aws.moto_patches import apply_patches
        from sandbox.aws.serving import keep_connections

        apply_patches()
        keep_connections()
    server = ThreadedMotoServer(ip_address=chosen.host, port=chosen.port, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    report_to_parent({"port": port})
    threading.Event().wait()


if __name__ == "__main__":
    main()
