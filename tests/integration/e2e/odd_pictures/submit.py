"""Submits every picture of a folder and prints, as a line of JSON, the job after its end, or the problem of a refusal.

python submit.py FOLDER TOP_K
"""

import asyncio
import json
import sys
from pathlib import Path

from darkroom_client import AsyncClient, Refused

AT_ONCE = 8


async def main(folder: Path, top_k: int) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async with AsyncClient() as darkroom:

        async def submit(picture: Path) -> dict[str, object]:
            async with turns:
                try:
                    job = await darkroom.submit(picture, params={"top_k": top_k}, wait=True, fresh=True)
                except Refused as refused:
                    return {"file": picture.name, "problem": refused.problem}
            return {"file": picture.name, "job": job}

        pictures = [path for path in sorted(folder.iterdir()) if path.suffix not in (".json", ".md")]
        for line in await asyncio.gather(*map(submit, pictures)):
            print(json.dumps(line))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
