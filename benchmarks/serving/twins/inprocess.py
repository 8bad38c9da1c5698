"""onnxruntime alone: `python inprocess.py MODEL FEEDS`, FEEDS an .npz of inputs.

For each line with a number of seconds it runs the model for so long, and writes how often it did.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feeds = dict(np.load(sys.argv[2], allow_pickle=True))
session.run(None, feeds)
for line in sys.stdin:
    started, runs = time.monotonic(), 0
    while time.monotonic() - started < float(line):
        session.run(None, feeds)
        runs += 1
    print(runs, flush=True)
