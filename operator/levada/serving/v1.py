"""KServe's v1 protocol: rows as objects or lists in, predictions out.

The path of a version is TensorFlow Serving's, from which v1 comes, and so are its status and the form of the
predictions: values where the model has one output, objects with a value for each output where it has several.
"""

from __future__ import annotations

from typing import Any

import orjson

from levada.serving.columns import too_many
from levada.serving.documents import object_of
from levada.serving.errors import RequestError, bad, cut, listed, nearest
from levada.serving.model import Scores, ServedModel, Signature, Values
from levada.serving.recorder import ScoreIds


def read(body: bytes, signature: Signature, most_rows: int) -> tuple[int, list[Values]]:
    """The number of rows, and the columns in the order of the signature; raises RequestError."""
    instances = object_of(body).get("instances")
    if type(instances) is not list:
        raise bad("the request has no list 'instances'; send {\"instances\": [{column: value, …}, …]}")
    if not instances:
        raise bad("the request has no instances; send at least one row")
    if len(instances) > most_rows:
        raise too_many(len(instances), most_rows)
    names, width = signature.names, len(signature.names)
    rows = []
    for number, row in enumerate(instances):
        if type(row) is dict:
            values = list(map(row.get, names))
            if len(row) > width or not row.keys() <= signature.index.keys():
                raise _unknown(number, row, signature)
        elif type(row) is list and len(row) == width:
            values = row
        else:
            raise _not_a_row(number, row, signature)
        rows.append(values)
    return len(rows), [list(column) for column in zip(*rows, strict=True)]


def _unknown(number: int, row: dict[str, Any], signature: Signature) -> RequestError:
    name = next(name for name in row if name not in signature.index)
    return bad(f"row {number}: the model has no column {cut(name)!r}{nearest(name, signature.names)}")


def _not_a_row(number: int, row: Any, signature: Signature) -> RequestError:
    if type(row) is not list:
        return bad(f"row {number} is {row!r:.60}; send an object {{column: value, …}} or a list of values")
    return bad(
        f"row {number} has {len(row)} values, but the model takes {len(signature.names)}: {listed(signature.names)}"
    )


def status(version: int) -> dict[str, Any]:
    """What there is to say of a version that is served."""
    state = {"version": str(version), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return {"model_version_status": [state]}


def write(model: ServedModel, version: int, scores: Scores, ids: ScoreIds | None) -> bytes:
    """The body of the answer."""
    names = [output.name for output in model.outputs]
    columns = [
        (array if output.kind == "probabilities" else array.reshape(scores.rows)).tolist()
        for output, array in zip(model.outputs, scores.outputs, strict=True)
    ]
    predictions = (
        columns[0] if len(columns) == 1 else [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    )
    document: dict[str, Any] = {"predictions": predictions, "model_version": str(version)}
    if ids is not None:
        document["score_ids"] = ids.texts()
    return orjson.dumps(document)
