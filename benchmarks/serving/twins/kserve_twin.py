"""The same model behind a stock `kserve.Model`, for both protocols: `python kserve_twin.py MODEL FEEDS PORT`."""

from __future__ import annotations

import sys
from typing import Any

import kserve
import numpy as np
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, ModelServer

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
fixed = dict(np.load(sys.argv[2], allow_pickle=True))
outputs = [output.name for output in session.get_outputs()]
datatypes = {np.dtype(np.int64): "INT64", np.dtype(np.float32): "FP32"}


class Twin(kserve.Model):
    def __init__(self) -> None:
        super().__init__("twin")
        self.ready = True

    def load(self) -> bool:
        return True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        feeds = dict(fixed)
        if isinstance(payload, InferRequest):
            for tensor in payload.inputs:
                if tensor.name in fixed:
                    feeds[tensor.name] = np.array(tensor.data, fixed[tensor.name].dtype).reshape(-1, 1)
            results = session.run(outputs, feeds)
            return InferResponse(
                payload.id or "",
                "twin",
                [
                    InferOutput(name, list(array.shape), datatypes[array.dtype], array.ravel().tolist())
                    for name, array in zip(outputs, results, strict=True)
                ],
            )
        rows = payload["instances"]
        for name in rows[0]:
            if name in fixed:
                feeds[name] = np.array([row[name] for row in rows], fixed[name].dtype).reshape(-1, 1)
        labels, probabilities = session.run(outputs, feeds)
        return {
            "predictions": [
                {"label": label, "probabilities": p}
                for label, p in zip(labels.tolist(), probabilities.tolist(), strict=True)
            ]
        }


if __name__ == "__main__":
    ModelServer(http_port=int(sys.argv[3]), enable_grpc=False).start([Twin()])
