"""`python -m trm_verify.cli` is `trm-verify`."""

from __future__ import annotations

import sys

from trm_verify.cli.run import main

if __name__ == "__main__":
    sys.exit(main())
