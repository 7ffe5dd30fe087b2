"""Holds all memory of the first GPU except so many MiB, until its standard input ends.

    python3 tests/bench/heavy/hold.py MIB
"""

import sys

import torch

free, _ = torch.cuda.mem_get_info(0)
held = torch.empty(free - (int(sys.argv[1]) << 20), dtype=torch.uint8, device="cuda:0")
print(f"holds {held.numel() >> 20} MiB", flush=True)
sys.stdin.read()
