"""Column types, and how their values stand in ONNX tensors.

Every graph input and every derived output is one named column of shape [N, 1]:

| column type             | tensor         | null                                         |
| ----------------------- | -------------- | -------------------------------------------- |
| int64, float64, boolean | tensor(double) | NaN (so a NaN that comes in is a null)       |
| timestamp, date         | tensor(int64)  | `NULL_TIME`; microseconds since 1970 UTC     |
| string                  | tensor(string) | `NULL_STRING`                                |

Integers are exact up to `MAX_INTEGER`; what lies beyond is refused where data comes in. Times run from
`MIN_TIME` to `MAX_TIME`, the years that Python, Arrow and ISO 8601 share; a date is its midnight.
"""

from __future__ import annotations

from enum import StrEnum

# One operator set for every graph that may be merged with another. 20 is the first with string equality, string
# concatenation and full-match of regular expressions; skl2onnx converts to it. ai.onnx.ml 3 is what skl2onnx's
# isolation forest needs.
OPSET = 20
ML_OPSET = 3
IR_VERSION = 9

# A private-use code point, the last of Unicode's that can be exchanged: valid UTF-8, so it passes through numpy, Arrow
# and onnxruntime unchanged, and no standard will ever give it a meaning. A text that is exactly this is a null.
NULL_STRING = "\U0010fffd"
NULL_TIME = -(2**63)

MAX_INTEGER = 2**53
DAY = 86_400_000_000  # microseconds
MIN_TIME = -719_162 * DAY  # 0001-01-01
MAX_TIME = 2_932_897 * DAY - 1  # 9999-12-31 23:59:59.999999


class ColumnType(StrEnum):
    """The types that a column can have."""

    INT64 = "int64"
    FLOAT64 = "float64"
    STRING = "string"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    DATE = "date"

    @property
    def is_temporal(self) -> bool:
        """Whether values stand in tensor(int64), as microseconds."""
        return self in (ColumnType.TIMESTAMP, ColumnType.DATE)


class ExpressionError(ValueError):
    """An expression that cannot be compiled; `str()` is one clear sentence that names what is wrong in it."""
