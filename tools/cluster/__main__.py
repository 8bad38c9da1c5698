"""Commands for the cluster of this checkout.

python -m tools.cluster up             a cluster of this checkout's own, or the one that is there already
python -m tools.cluster down           remove the cluster that `up` has made, and nothing else
python -m tools.cluster run COMMAND …  run a command with our own up, which goes down again if it was not up before
python -m tools.cluster install        the stores and KServe, into a cluster that was not made here
python -m tools.cluster kill NAME      kill one of the node's processes, which its supervisor starts again
"""

from __future__ import annotations

import sys

from tools.build import BuildError
from tools.cluster import lifecycle, node
from tools.cluster.layout import ClusterError, own_state


def main() -> None:
    """Run the command named on the command line."""
    try:
        match sys.argv[1:]:
            case ["up"]:
                lifecycle.up()
            case ["down"]:
                lifecycle.down()
            case ["run", *command] if command:
                sys.exit(lifecycle.run(command))
            case ["install"]:
                lifecycle.install()
            case ["kill", name]:
                node.kill_component(own_state(), name)
            case _:
                sys.exit(__doc__)
    except (ClusterError, BuildError) as error:
        sys.exit(f"cluster: {error}")


if __name__ == "__main__":
    main()
