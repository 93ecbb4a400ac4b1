"""``python -m vision_mem`` is ``vision-mem``."""

import sys

from vision_mem.cli import main

if __name__ == "__main__":
    sys.exit(main())
