"""``python -m itercli`` is the command ``iter``."""

import sys

from itercli.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
