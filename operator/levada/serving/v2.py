"""The Open Inference Protocol v2 over REST, with its binary tensor extension.

A request brings each column as a tensor of its own, of shape [N] or [N, 1]. The answer has the model's outputs and,
where scores are recorded, `score_id` [N].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from levada.serving.columns import too_many
from levada.serving.documents import object_of
from levada.serving.errors import RequestError, bad, cut, listed, nearest
from levada.serving.model import Scores, ServedModel, Signature, Values
from levada.serving.recorder import ScoreIds
from levada.serving.session import Array

SCORE_ID = "score_id"
_TYPES = {"int64": "INT64", "string": "BYTES", "float": "FP32"}


@dataclass(slots=True)  # not frozen, as that takes longer to make
class InferRequest:
    """Columns in the order of the signature. `single`: one row of JSON values.

    `outputs`: name, and whether it is wanted as binary; None = all. `binary`: all are wanted so.
    """

    id: str | None
    rows: int
    columns: list[Values]
    single: bool
    outputs: dict[str, bool] | None
    binary: bool


def read(body: bytes, json_length: int | None, signature: Signature, most_rows: int) -> InferRequest:
    """A request; `json_length`: bytes of JSON in front of the binary data. Raises RequestError."""
    binary = None
    if json_length is not None:
        if json_length > len(body):
            raise bad(
                f"Inference-Header-Content-Length is {json_length}, but the body has only {len(body)} bytes; "
                "give the length of the JSON in front of the binary data"
            )
        body, binary = body[:json_length], memoryview(body)[json_length:]
    document = object_of(body)
    inputs = document.get("inputs")
    if type(inputs) is not list:
        raise bad("the request has no list 'inputs'; send {\"inputs\": [{name, datatype, shape, data}, …]}")
    tensors = _Tensors(signature, most_rows, binary)
    for tensor in inputs:
        tensors.add(tensor)
    id, parameters = document.get("id"), document.get("parameters")
    if id is not None and type(id) is not str:
        raise bad("the request's id is not a text; put it in quotes")
    outputs, rows = document.get("outputs"), tensors.finish()
    return InferRequest(
        id,
        rows,
        tensors.columns,
        rows == 1 and binary is None,
        None if outputs is None else _wanted(outputs),
        _flag(parameters, "binary_data_output") if parameters is not None else False,
    )


class _Tensors:
    """The inputs of a request, one after another."""

    def __init__(self, signature: Signature, most_rows: int, binary: memoryview | None) -> None:
        self.columns: list[Values] = [None] * len(signature.columns)
        self._signature = signature
        self._most_rows = most_rows
        self._binary = binary
        self._position = 0
        self._rows = 0
        self._first = ""

    def add(self, tensor: Any) -> None:
        try:
            name, shape, datatype = tensor["name"], tensor["shape"], tensor["datatype"]
            index = self._signature.index[name]
        except (KeyError, TypeError):
            raise self._explain(tensor) from None
        column = self._signature.columns[index]
        if datatype not in column.datatypes:
            raise self._wrong_datatype(name, datatype, column.datatypes)
        rows = shape[0] if type(shape) is list and (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)) else None
        if type(rows) is not int or rows < 1:
            raise bad(f"column '{name}': the shape {_shown(shape)} is neither [N] nor [N, 1] with N ≥ 1 rows")
        if rows != self._rows:
            self._set_rows(rows, name)
        if self.columns[index] is not None:
            raise bad(f"column '{name}' is in the request twice; send it once")
        data = tensor.get("data")
        if type(data) is list and "parameters" not in tensor:
            self.columns[index] = data if len(data) == rows and type(data[0]) is not list else _flat(data, rows, name)
        else:
            self.columns[index] = self._from_binary(tensor, index, rows)

    def finish(self) -> int:
        """The number of rows, when all tensors have been added."""
        if not self._rows:
            raise bad(f"the request has no inputs; send one for each of: {listed(self._signature.names)}")
        if self._binary is not None and self._position != len(self._binary):
            raise bad(
                f"{len(self._binary)} bytes follow the JSON, but the binary_data_size of the inputs add up to "
                f"{self._position}; make them agree"
            )
        return self._rows

    def _set_rows(self, rows: int, name: str) -> None:
        if self._rows:
            raise bad(
                f"column '{name}' has {rows} rows, but '{self._first}' has {self._rows}; send the same number in all"
            )
        if rows > self._most_rows:
            raise too_many(rows, self._most_rows)
        self._rows, self._first = rows, name

    def _from_binary(self, tensor: dict[str, Any], index: int, rows: int) -> Values:
        name, data, parameters = tensor["name"], tensor.get("data"), tensor.get("parameters")
        size = parameters.get("binary_data_size") if type(parameters) is dict else None
        if size is None:
            if type(data) is not list:
                raise bad(f"column '{name}' has no list 'data'; send {rows} values (or binary_data_size in parameters)")
            return _flat(data, rows, name)
        if data is not None:
            raise bad(f"column '{name}' has both data and binary_data_size; send one of them")
        if type(size) is not int or size < 0:
            raise bad(f"column '{name}': binary_data_size is {_shown(size)}; send the number of bytes")
        if self._binary is None:
            raise bad(
                f"column '{name}' has binary_data_size, but the request has no Inference-Header-Content-Length header; "
                "send the length of the JSON in it"
            )
        start, self._position = self._position, self._position + size
        if self._position > len(self._binary):
            raise bad(
                f"column '{name}': binary_data_size is {size}, but only {len(self._binary) - start} bytes are left "
                "behind the JSON; the body is cut off or a size is wrong"
            )
        column = self._signature.columns[index]
        return column.from_binary(tensor["datatype"], self._binary[start : self._position], rows)

    def _explain(self, tensor: Any) -> RequestError:
        """What is wrong with a tensor that lacks something or whose column there is not."""
        if type(tensor) is not dict:
            return bad("an element of 'inputs' is not an object; send {name, datatype, shape, data} for each column")
        name = tensor.get("name")
        if type(name) is not str:
            return bad("an element of 'inputs' has no name; send {name, datatype, shape, data} for each column")
        if name not in self._signature.index:
            return bad(f"the model has no column {cut(name)!r}{nearest(name, self._signature.names)}")
        missing = "shape" if "shape" not in tensor else "datatype"
        return bad(f"column '{name}' has no {missing}; send {{name, datatype, shape, data}}")

    def _wrong_datatype(self, name: str, datatype: Any, known: tuple[str, ...]) -> RequestError:
        return bad(
            f"column '{name}': the datatype {_shown(datatype)} is not supported here; send {known[0]}"
            + (f" (or {', '.join(known[1:])})" if len(known) > 1 else "")
        )


def _flat(data: list[Any], rows: int, name: str) -> list[Any]:
    """The values of data that may be nested as the shape [N, 1] is."""
    if data and all(type(row) is list and len(row) == 1 for row in data):
        data = [row[0] for row in data]
    if len(data) != rows:
        raise bad(f"column '{name}': the shape says {rows} rows, but data has {len(data)} values; make them agree")
    return data


def _wanted(outputs: Any) -> dict[str, bool]:
    """Which outputs are asked for, and whether as binary."""
    if type(outputs) is not list:
        raise bad("'outputs' is not a list; send [{name}, …] or leave it out for all")
    wanted = {}
    for output in outputs:
        if type(output) is not dict or type(output.get("name")) is not str:
            raise bad("an element of 'outputs' has no name; send {name} for each output")
        parameters = output.get("parameters")
        wanted[output["name"]] = _flag(parameters, "binary_data") if parameters is not None else False
    return wanted


def _flag(parameters: Any, name: str) -> bool:
    if type(parameters) is not dict:
        raise bad("'parameters' is not an object; send {name: value}")
    value = parameters.get(name, False)
    if type(value) is not bool:
        raise bad(f"the parameter '{name}' is {_shown(value)}; send true or false")
    return value


def _shown(value: Any) -> str:
    return cut(orjson.dumps(value).decode())


class Writer:
    """Writes the answers of a version."""

    def __init__(self, model: ServedModel, name: str, version: int) -> None:
        self._outputs = model.outputs
        self._places = {output.name: i for i, output in enumerate(model.outputs)}
        self._datatypes = [_TYPES[output.type] for output in model.outputs]
        self._head: dict[str, Any] = {"model_name": name, "model_version": str(version)}

    def check(self, outputs: Iterable[str], recorded: bool) -> None:
        """Raises RequestError if outputs are asked for that there are not; `recorded`: whether scores are."""
        for name in outputs:
            if name == SCORE_ID and not recorded:
                raise bad(f"there is no output '{SCORE_ID}' while scores are not recorded; leave it out of 'outputs'")
            if name not in self._places and name != SCORE_ID:
                known = [*self._places, SCORE_ID] if recorded else self._places
                raise bad(f"the model has no output {cut(name)!r}{nearest(name, known)}")

    def write(self, request: InferRequest, scores: Scores, ids: ScoreIds | None) -> tuple[bytes, int | None]:
        """The body, and the length of the JSON in it if binary data follow."""
        outputs: list[dict[str, Any]] = []
        binary: list[bytes] = []
        for place, output in enumerate(self._outputs):
            as_binary = request.binary
            if request.outputs is not None:
                if output.name not in request.outputs:
                    continue
                as_binary = as_binary or request.outputs[output.name]
            array = scores.outputs[place]
            entry = {"name": output.name, "datatype": self._datatypes[place], "shape": list(array.shape)}
            if as_binary:
                _add_binary(entry, _to_bytes(array), binary)
            else:
                entry["data"] = (array if array.ndim == 1 else array.ravel()).tolist()
            outputs.append(entry)
        if ids is not None and (request.outputs is None or SCORE_ID in request.outputs):
            entry = {"name": SCORE_ID, "datatype": "BYTES", "shape": [ids.rows]}
            if request.binary or (request.outputs is not None and request.outputs[SCORE_ID]):
                _add_binary(entry, ids.to_bytes(), binary)
            else:
                entry["data"] = ids.texts()
            outputs.append(entry)
        document = self._head | {"outputs": outputs}
        if request.id is not None:
            document["id"] = request.id
        body = orjson.dumps(document)
        return (b"".join([body, *binary]), len(body)) if binary else (body, None)


def _add_binary(entry: dict[str, Any], data: bytes, binary: list[bytes]) -> None:
    entry["parameters"] = {"binary_data_size": len(data)}
    binary.append(data)


def _to_bytes(array: Array) -> bytes:
    if array.dtype == object:
        return _texts_to_bytes(array.ravel().tolist())
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _texts_to_bytes(texts: list[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(part for text in encoded for part in (len(text).to_bytes(4, "little"), text))


def metadata(model: ServedModel, name: str, versions: list[int], recorded: bool) -> dict[str, Any]:
    """What a model takes and gives."""
    inputs = [{"name": c.name, "datatype": c.datatypes[0], "shape": [-1]} for c in model.signature.columns]
    outputs = [
        {"name": o.name, "datatype": _TYPES[o.type], "shape": [-1] if o.width is None else [-1, o.width]}
        for o in model.outputs
    ]
    if recorded:
        outputs.append({"name": SCORE_ID, "datatype": "BYTES", "shape": [-1]})
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": "onnxruntime_onnx",
        "inputs": inputs,
        "outputs": outputs,
    }
