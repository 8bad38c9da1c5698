"""The process of a step: `python -m levada.steps INPUT`."""

import gc
import sys
from pathlib import Path

if __name__ == "__main__":
    # Imports make 90,000 objects that stay: to look for garbage among them, as often as Python does, is a sixth of the
    # time that a step takes to start.
    gc.set_threshold(50_000)
    from levada.steps.process import main

    sys.exit(main(Path(sys.argv[1])))
