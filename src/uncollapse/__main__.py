"""`python -m uncollapse`, and the command `uncollapse`.

A module of its own, which imports next to nothing, so that signals end the command well from its first moments on;
what is imported within `main` takes a third of a second.
"""

import sys

from uncollapse.signals import end_by_signals


def main() -> int:
    """Runs the command line of this process, and answers its exit status; see `uncollapse.cli.main`."""
    end_by_signals()
    from uncollapse.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
