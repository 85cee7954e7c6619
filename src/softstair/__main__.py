"""The command line's way in, and ``python -m softstair``, where a launcher wants a module.

Nothing is imported before Ctrl-C is listened to.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; interrupted at any time, it says so in a word."""
    try:
        from softstair.commands import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
