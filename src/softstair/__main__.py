"""``python -m softstair``: the command line, where a launcher such as torchrun wants a module."""

from __future__ import annotations

from softstair.commands import main

if __name__ == "__main__":
    main()
