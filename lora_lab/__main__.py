"""``python -m lora_lab VERB``."""

from __future__ import annotations

import sys

from lora_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
