"""onnxruntime alone, CPU microseconds a run: `python inprocess.py MODEL FEEDS SECONDS`, FEEDS an .npz of inputs."""

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
started, before, runs = time.monotonic(), time.process_time(), 0
while time.monotonic() - started < float(sys.argv[3]):
    session.run(None, feeds)
    runs += 1
print((time.process_time() - before) / runs * 1e6)
