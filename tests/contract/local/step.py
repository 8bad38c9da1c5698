"""A step that does what its test wrote down: one word for each attempt of its index, in a file named after the index.

`ok` leaves a termination message that points to the index's result, `fail` and `refuse` leave an error, `vanish` ends
well and leaves nothing, `die` is killed, `hang` waits until it is ended; `done-hang` leaves its result and then waits.
Each attempt is noted in `attempts`. Uses the standard library alone, so that it starts in no time.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

index = os.environ["JOB_COMPLETION_INDEX"]
folder = Path(os.environ["SCRIPT"])
document = json.loads(Path(sys.argv[1]).read_text())
with (folder / "attempts").open("a") as file:
    file.write(f"{index}\n")
number = (folder / "attempts").read_text().split().count(index) - 1
words = (folder / index).read_text().split()
word = words[min(number, len(words) - 1)]


def leave(message: dict[str, Any]) -> None:
    Path(os.environ["LEVADA_TERMINATION_LOG"]).write_text(json.dumps(message))


if word in ("ok", "done-hang"):
    owner = document["owner"]
    leave({"result": f"steps/{owner['namespace']}/{document['job']}/{index}.json", "digest": "sha256:0"})
if word in ("fail", "refuse"):
    leave({"error": {"reason": "StepFailed", "message": f"attempt {number + 1} did not go well"}})
if word in ("hang", "done-hang"):
    (folder / "hanging").write_text(str(os.getpid()))
    signal.pause()
if word == "die":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit({"fail": 1, "refuse": 65}.get(word, 0))
