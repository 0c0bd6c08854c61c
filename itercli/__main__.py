"""``python -m itercli`` is the command ``iter``."""

import sys

if __name__ == "__main__":
    try:
        from itercli.cli.main import main
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(main())
