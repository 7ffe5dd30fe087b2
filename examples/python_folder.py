"""Predicts every photo of a folder, a few at a time, and prints one JSON line for each.

    python examples/python_folder.py photos/ > results.ndjson

Killed and started again with the same folder, it submits no photo twice: the run has a name.
"""

import asyncio
import json
import sys
from pathlib import Path

from darkroom_client import AsyncClient, DarkroomError

AT_ONCE = 8


async def main(folder: Path) -> int:
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    turns = asyncio.Semaphore(AT_ONCE)
    failed = 0

    async with AsyncClient(run=f"folder {folder.resolve()}") as darkroom:

        async def one(photo: Path) -> dict[str, object]:
            async with turns:
                try:
                    job = await darkroom.submit(photo, params={"top_k": 3}, wait=True)
                except DarkroomError as error:
                    return {"photo": str(photo), "error": str(error)}
            return {"photo": str(photo), "job": job.id, "status": job.status, "result": job.result}

        for done in asyncio.as_completed([one(photo) for photo in photos]):
            line = await done
            failed += line.get("status") != "succeeded"
            print(json.dumps(line), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
