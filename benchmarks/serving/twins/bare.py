"""The least that a Python server can do: raw ASGI on uvicorn, orjson, onnxruntime, nothing checked and nothing kept.

`python bare.py MODEL FEEDS PORT`: FEEDS is an .npz file with a row of every input; what a request does not bring (the
looked-up columns) is taken from there.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnxruntime
import orjson
import uvicorn

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
fixed = dict(np.load(sys.argv[2], allow_pickle=True))
outputs = [output.name for output in session.get_outputs()]
datatypes = {np.dtype(np.int64): "INT64", np.dtype(np.float32): "FP32"}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    feeds = dict(fixed)
    for tensor in orjson.loads(body)["inputs"]:
        if tensor["name"] in fixed:
            feeds[tensor["name"]] = np.array(tensor["data"], fixed[tensor["name"]].dtype).reshape(-1, 1)
    results = [
        {"name": name, "datatype": datatypes[array.dtype], "shape": array.shape, "data": array.ravel().tolist()}
        for name, array in zip(outputs, session.run(outputs, feeds), strict=True)
    ]
    answer = orjson.dumps({"model_name": "bare", "outputs": results})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[3]),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
    )
