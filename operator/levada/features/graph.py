"""Puts ONNX graphs together: derived features, fitted transforms and a model become one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import helper

from levada.features.export import model
from levada.features.types import ML_OPSET, OPSET

OPSETS = {"": OPSET, "ai.onnx.ml": ML_OPSET}
# ai.onnx.ml 3 gave these further attributes and left what was there as it is.
EXTENDED = {("ai.onnx.ml", "TreeEnsembleClassifier"), ("ai.onnx.ml", "TreeEnsembleRegressor")}

Rename = Callable[[str], str]


@dataclass(frozen=True)
class Stage:
    """A graph to be put together with others.

    prefix: goes before all names inside, such as "scale/"; another one for each stage.
    inputs: for an input of the graph the name that it has outside, where that differs.
    outputs: the same for outputs.
    """

    model: onnx.ModelProto
    prefix: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    def takes(self) -> dict[str, onnx.ValueInfoProto]:
        """Inputs by their outer names."""
        graph = self.model.graph
        fixed = {constant.name for constant in graph.initializer}
        return {self.inputs.get(i.name, i.name): i for i in graph.input if i.name not in fixed}

    def gives(self) -> dict[str, onnx.ValueInfoProto]:
        """Outputs by their outer names."""
        return {self.outputs.get(o.name, o.name): o for o in self.model.graph.output}


def merge(stages: Sequence[Stage], outputs: Sequence[str] | None = None) -> onnx.ModelProto:
    """One checked model of several, each fed by those before it.

    A stage's input is what an earlier stage gives under its name, or else an input of the whole. Where two stages give
    the same name, the later one counts from then on. outputs: what the whole gives, in this order; absent, what the
    last stage gives. Nodes, constants and inputs that those do not need are left out.

    Raises:
        ValueError: nothing gives a wanted output, an input would have two types or the name of an output, or a stage
            needs other operator sets than `OPSETS`.
    """
    wanted = list(stages[-1].gives() if outputs is None else outputs)
    givers = {name: stage.prefix for stage in stages for name in stage.gives()}
    for name in wanted:
        if name not in givers:
            raise ValueError(f"no stage gives '{name}', only {', '.join(givers)}")
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    entries: dict[str, onnx.ValueInfoProto] = {}
    given: dict[str, onnx.ValueInfoProto] = {}
    inner: dict[str, str] = {}  # outer name -> name of the value in the merged graph
    for stage in stages:
        _refuse_unfit(stage)
        table: dict[str, str] = {}
        for name, entry in stage.takes().items():
            if name not in inner:
                entries[name], inner[name] = entry, name
            elif name in entries and entries[name].type.tensor_type.elem_type != entry.type.tensor_type.elem_type:
                raise ValueError(f"the input '{name}' would have two types")
            table[entry.name] = inner[name]
        for name, result in stage.gives().items():
            if name in wanted and givers[name] == stage.prefix:
                if name in entries:
                    raise ValueError(f"'{name}' cannot be an input and an output: give the output another name")
                table.setdefault(result.name, name)
        rename = _renamer(table, stage.prefix)
        nodes += [_renamed_node(node, rename) for node in stage.model.graph.node]
        constants += [_renamed(constant, rename) for constant in stage.model.graph.initializer]
        for name, result in stage.gives().items():
            given[name], inner[name] = result, rename(result.name)
    # An output that a stage merely passes on, or gives under two names.
    nodes += [helper.make_node("Identity", [inner[name]], [name]) for name in wanted if inner[name] != name]
    nodes, read = _needed(nodes, wanted)
    graph = helper.make_graph(
        nodes,
        "levada",
        [_named(entry, name) for name, entry in entries.items() if name in read],
        [_named(given[name], name) for name in wanted],
        [constant for constant in constants if constant.name in read],
    )
    return model(graph)


def _refuse_unfit(stage: Stage) -> None:
    graph = stage.model.graph
    if stage.model.functions or graph.sparse_initializer:
        raise ValueError(f"the stage '{stage.prefix}' has local functions or sparse constants, which cannot be merged")
    versions = {entry.domain: entry.version for entry in stage.model.opset_import}
    for node in graph.node:
        wanted = OPSETS.get(node.domain)
        if wanted is None:
            raise ValueError(
                f"the stage '{stage.prefix}' uses {node.domain}.{node.op_type}, which is not standard ONNX"
            )
        if versions[node.domain] != wanted and not _unchanged(node, versions[node.domain], wanted):
            raise ValueError(
                f"the stage '{stage.prefix}' uses {node.op_type} of version {versions[node.domain]} of the operator set"
                f" '{node.domain or 'ai.onnx'}': convert it with version {wanted}"
            )


def _unchanged(node: onnx.NodeProto, version: int, wanted: int) -> bool:
    """Whether an operator means the same in both versions of its operator set."""
    if version < wanted and (node.domain, node.op_type) in EXTENDED:
        return True
    try:
        since = [onnx.defs.get_schema(node.op_type, v, node.domain).since_version for v in (version, wanted)]
    except onnx.defs.SchemaError:
        return False
    return since[0] == since[1]


def _renamer(table: Mapping[str, str], prefix: str) -> Rename:
    # The empty name stands for an optional input that is absent.
    return lambda name: table.get(name, f"{prefix}{name}") if name else ""


def _renamed_node(node: onnx.NodeProto, rename: Rename) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = rename(node.name)
    copy.input[:] = map(rename, node.input)
    copy.output[:] = map(rename, node.output)
    for attribute in copy.attribute:
        for graph in _graphs(attribute):
            _rename_inside(graph, rename)
    return copy


def _rename_inside(graph: onnx.GraphProto, rename: Rename) -> None:
    """Renames all of a subgraph, in place; it sees the names around it."""
    renamed = [_renamed_node(node, rename) for node in graph.node]
    del graph.node[:]
    graph.node.extend(renamed)
    for named in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        named.name = rename(named.name)


def _graphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _renamed(constant: onnx.TensorProto, rename: Rename) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(constant)
    copy.name = rename(constant.name)
    return copy


def _named(info: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(info)
    copy.name = name
    return copy


def _reads(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """The names that nodes read, in their subgraphs as well."""
    names: set[str] = set()
    for node in nodes:
        names.update(node.input)
        for attribute in node.attribute:
            for graph in _graphs(attribute):
                names |= _reads(graph.node) | {output.name for output in graph.output}
    return names


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """Of nodes in order those that `outputs` need, and all names that are needed."""
    needed = set(outputs)
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed |= _reads([node])
    return kept[::-1], needed
