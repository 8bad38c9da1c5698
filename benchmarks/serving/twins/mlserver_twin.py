"""The same model behind MLServer, as a runtime of one's own; TWIN_MODEL and TWIN_FEEDS name its files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

DATATYPES = {np.dtype(np.int64): "INT64", np.dtype(np.float32): "FP32"}


class Twin(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = os.environ["TWIN_MODEL"]
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._fixed = dict(np.load(os.environ["TWIN_FEEDS"], allow_pickle=True))
        self._outputs = [output.name for output in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feeds: dict[str, Any] = dict(self._fixed)
        for tensor in payload.inputs:
            if tensor.name in feeds:
                feeds[tensor.name] = np.array(tensor.data.root, feeds[tensor.name].dtype).reshape(-1, 1)
        results = self._session.run(self._outputs, feeds)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                ResponseOutput(
                    name=name,
                    shape=list(array.shape),
                    datatype=DATATYPES[array.dtype],
                    data=array.ravel().tolist(),
                )
                for name, array in zip(self._outputs, results, strict=True)
            ],
        )
