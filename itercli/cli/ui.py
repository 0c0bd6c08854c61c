"""Show all runs in a browser, and follow those that are under way.

The pages are those of `iter report`; they bring themselves up to date while a run is going. The
server answers on this machine alone (loopback), and only who opens the printed address, which has a
token: other users of the machine are refused. It changes nothing. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import os
import sys

from itercli.cli.common import add_runs_argument, fail

PORT = 8765


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--port", type=_port, default=PORT, help=f"port, or the next that is free; 0: any ({PORT})"
    )
    parser.add_argument("--open", action="store_true", help="open the pages in the default browser")
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.errors import IterError
    from itercli.web.charts import svg_maker
    from itercli.web.gate import PARAMETER, Key
    from itercli.web.page import environment
    from itercli.web.server import application, listen, serve

    if args.runs.exists() and not args.runs.is_dir():
        return fail(f"--runs {args.runs} is not a folder", 2)
    try:
        for need in (environment, svg_maker):
            need()
        key = Key()
        app = application(args.runs, key)
        sock = listen(args.port)
        host, port = sock.getsockname()
        if args.port not in (0, port):
            print(f"port {args.port} is taken; using {port}", file=sys.stderr)
        address = f"http://{host}:{port}/?{PARAMETER}="
        print(f"{address}{key.token}  (Ctrl-C ends it)", flush=True)
        if args.open:
            import webbrowser

            webbrowser.open(address + key.once())  # others can see how the browser is started
        serve(app, sock)
    except IterError as error:
        return fail(error)
    except KeyboardInterrupt:
        sys.stdout.flush()
        os._exit(130)  # nothing is written here, so there is nothing to wait for
    return 0


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 65536:
        raise argparse.ArgumentTypeError("must be from 0 to 65535")
    return value
