"""The process of a scorer: `python -m levada.serving --config FILE --host 127.0.0.1 --port 8080`."""

import gc
import sys

if __name__ == "__main__":
    gc.set_threshold(50_000)  # as in the process of a step
    from levada.serving.process import main

    sys.exit(main())
