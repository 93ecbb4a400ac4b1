"""Graphs as GraphML, which Gephi, yEd, Cytoscape, networkx and others read."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from vision_mem.formats.text import make_folder, write_file

Value = str | int | float | bool
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML cannot hold, not even escaped."""


def write_graphml(
    path: str | Path,
    nodes: Iterable[tuple[str, Mapping[str, Value]]],
    edges: Iterable[tuple[str, str, Mapping[str, Value]]],
) -> None:
    """Write a directed graph; whole or not at all.

    Args:
        path: the file; its folder is made.
        nodes: name and properties each.
        edges: from, to, and properties each.

    Raises:
        SinkError: when it cannot be written.
    """
    import networkx as nx

    graph = nx.DiGraph()
    for name, properties in nodes:
        graph.add_node(name, **_clean(properties))
    for start, end, properties in edges:
        graph.add_edge(start, end, **_clean(properties))
    content = io.BytesIO()
    nx.write_graphml_xml(graph, content)
    make_folder(Path(path).parent)
    write_file(Path(path), content.getvalue())


def _clean(properties: Mapping[str, Value]) -> dict[str, Value]:
    return {
        name: _FORBIDDEN.sub("\ufffd", value) if isinstance(value, str) else value
        for name, value in properties.items()
    }
