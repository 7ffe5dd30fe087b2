"""Predicts every photo of a folder, a few at a time, and prints one JSON line for each.

    python examples/python_folder.py photos/ > results.ndjson

Killed and started again with the same folder, it submits no photo twice: the run has a name. A bad photo is a line with an
`error`, and the others go on.
"""

import json
import sys
from pathlib import Path

from darkroom_client import Client


def main(folder: Path) -> int:
    failed = 0
    with Client(run=f"folder {folder.resolve()}") as darkroom:
        for file in darkroom.predict_folder(folder, params={"top_k": 3}):
            line: dict[str, object] = {"photo": str(file.path)}
            if file.job is not None:
                line |= {"job": file.job.id, "status": file.job.status}
            if file.succeeded:
                line["result"] = file.result
            else:
                line["error"] = str(file.error)
                failed += 1
            print(json.dumps(line), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
