"""Whether a query's answer depends on the order in which rows come.

DuckDB's threads take turns as they please, so the order of rows within a group, a window or a join is another each
time: a sum of doubles differs in its last bits, and a window whose order has ties numbers its rows otherwise. A version
has to come out the same when it is made again, so such a query gets one thread, whose order is always the same; what
provably needs no order gets all.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlglot import exp

from levada.features.query import parse

# The same whatever the order.
FIXED = (
    exp.ApproxDistinct,
    exp.BitwiseAndAgg,
    exp.BitwiseOrAgg,
    exp.BitwiseXorAgg,
    exp.Count,
    exp.CountIf,
    exp.CumeDist,
    exp.DenseRank,
    exp.LogicalAnd,
    exp.LogicalOr,
    exp.Max,
    exp.Median,
    exp.Min,
    exp.PercentRank,
    exp.PercentileCont,
    exp.PercentileDisc,
    exp.Quantile,
    exp.Rank,
    exp.RegrCount,
)
# Exact, and so the same, where what they add up is whole.
SUMS = (exp.Sum, exp.Avg)
ORDERED = (exp.AggFunc, exp.ApproxQuantile, exp.Fetch, exp.Limit, exp.Offset, exp.RowNumber)
# Aggregates that the parser has no class for.
# fmt: off
ORDERED_NAMES = frozenset({
    "any_value", "approx_top_k", "arbitrary", "arg_max_null", "arg_max_nulls_last", "arg_min_null",
    "arg_min_nulls_last", "bitstring_agg", "combine_aggr", "decimal_average", "entropy", "favg", "fill", "fsum",
    "geomean", "geometric_mean", "histogram", "histogram_exact", "json_group_array", "json_group_object",
    "json_group_structure", "kahan_sum", "kurtosis_pop", "list", "lttb", "mad", "mean", "product",
    "reservoir_quantile", "sem", "sum_no_overflow", "sumkahan", "variant_group_array", "variant_group_object", "wavg",
    "weighted_avg",
})
# fmt: on
WHOLE = (exp.Add, exp.Sub, exp.Mul, exp.Neg, exp.Paren, exp.Case, exp.If, exp.Coalesce, exp.Abs)
CONDITIONS = (exp.Predicate, exp.And, exp.Or, exp.Not, exp.Boolean, exp.Null)


def depends_on_order(sql: str, integers: Collection[str]) -> bool:
    """Whether rows in another order might give another answer; `integers`: columns of the inputs, in lower case, whose
    values are whole wherever a column of that name is. In doubt it says yes. Raises as `check_query`."""
    tree = parse(sql)
    # A name that stands elsewhere too than as a column's own may be given to something else there: x AS a, q(k, a).
    given = {name.name.lower() for name in tree.find_all(exp.Identifier) if not isinstance(name.parent, exp.Column)}
    # A PIVOT names columns after values.
    whole = set() if tree.find(exp.Pivot) else {name for name in integers if name not in given}
    return any(_depends(node, whole) for node in tree.walk())


def _depends(node: exp.Expr, whole: Collection[str]) -> bool:
    if isinstance(node, SUMS):
        return not _is_whole(node.this, whole)
    if isinstance(node, FIXED) and not isinstance(node, exp.ApproxQuantile):
        return False
    if isinstance(node, exp.Anonymous):
        return node.name.lower() in ORDERED_NAMES
    if isinstance(node, exp.Join):
        return node.method in ("ASOF", "POSITIONAL")
    if isinstance(node, exp.Distinct):
        return node.args.get("on") is not None
    if isinstance(node, exp.WindowSpec):
        return str(node.args.get("kind")).upper() == "ROWS"
    return isinstance(node, ORDERED)


def _is_whole(node: exp.Expr, whole: Collection[str]) -> bool:
    """Whether a value is an integer or a truth for certain."""
    if isinstance(node, exp.Column):
        return node.name.lower() in whole
    if isinstance(node, exp.Literal):
        return not node.is_string and node.this.isdigit()
    if isinstance(node, exp.Cast):
        return node.to.this in exp.DataType.INTEGER_TYPES
    if isinstance(node, exp.Distinct):
        return all(_is_whole(value, whole) for value in node.expressions)
    if isinstance(node, exp.Case):
        branches = [branch.args["true"] for branch in node.args["ifs"]]
        return all(_is_whole(value, whole) for value in [*branches, node.args.get("default") or exp.Null()])
    if isinstance(node, exp.If):
        return all(_is_whole(value, whole) for value in (node.args["true"], node.args.get("false") or exp.Null()))
    if isinstance(node, CONDITIONS):
        return True
    if isinstance(node, WHOLE):
        return all(_is_whole(value, whole) for value in node.iter_expressions())
    return False
