"""Which track gets which face: the assignment with the largest sum of gains, in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

Edge = tuple[int, int, float]
"""Row, column and the gain of joining them, > 0."""


def assign(edges: Sequence[Edge]) -> list[tuple[int, int]]:
    """The one-to-one choice of edges with the largest sum of gains; rows and columns may stay alone.

    The graph falls into connected parts (people far from each other do not compete), each of which is solved exactly:
    a single edge by taking it, the rest by shortest augmenting paths (Kuhn 1955; Jonker and Volgenant 1987).

    Args:
        edges: possible pairs, each row and column at most once together.

    Returns:
        Chosen (row, column) pairs, by row.
    """
    chosen: list[tuple[int, int]] = []
    for part in _connected_parts(edges):
        if len(part) == 1:
            chosen.append(part[0][:2])
        else:
            chosen.extend(_solve(part))
    chosen.sort()
    return chosen


def _connected_parts(edges: Sequence[Edge]) -> list[list[Edge]]:
    """Groups edges that share rows or columns, directly or through others."""
    rows: dict[int, int] = {}
    columns: dict[int, int] = {}
    parts: dict[int, list[Edge]] = {}
    for index, edge in enumerate(edges):
        row, column, _ = edge
        of_row, of_column = rows.get(row, -1), columns.get(column, -1)
        at = max(of_row, of_column)
        if at < 0:
            at = index
            parts[at] = []
        elif of_row >= 0 and of_column >= 0 and of_row != of_column:
            joined = parts.pop(min(of_row, of_column))
            parts[at].extend(joined)
            for other_row, other_column, _ in joined:
                rows[other_row] = columns[other_column] = at
        rows[row] = columns[column] = at
        parts[at].append(edge)
    return list(parts.values())


def _solve(edges: Sequence[Edge]) -> list[tuple[int, int]]:
    """Exact solution of one part: every row also has a column of its own with gain 0, which means alone."""
    rows = sorted({edge[0] for edge in edges})
    columns = sorted({edge[1] for edge in edges})
    row_at = {row: index for index, row in enumerate(rows)}
    column_at = {column: index for index, column in enumerate(columns)}
    n, m = len(rows), len(columns)
    cost = [[inf] * m + [inf] * n for _ in rows]
    for index in range(n):
        cost[index][m + index] = 0.0
    for row, column, gain in edges:
        cost[row_at[row]][column_at[column]] = -gain
    owner = _shortest_augmenting_paths(cost)
    return [(rows[row], columns[column]) for column, row in enumerate(owner[:m]) if row >= 0]


def _shortest_augmenting_paths(cost: list[list[float]]) -> list[int]:
    """Row of each column (-1: none) in the cheapest assignment of every row; inf marks what is not allowed."""
    n, m = len(cost), len(cost[0])
    row_price, column_price = [0.0] * n, [0.0] * m
    owner = [-1] * m
    for start in range(n):
        distance, came_from, done = [inf] * m, [-1] * m, [False] * m
        row, via, reached = start, -1, 0.0
        while True:
            best, nearest = inf, -1
            for column in range(m):
                if done[column]:
                    continue
                length = reached + cost[row][column] - row_price[row] - column_price[column]
                if length < distance[column]:
                    distance[column], came_from[column] = length, via
                if distance[column] < best:
                    best, nearest = distance[column], column
            done[nearest], reached, via = True, best, nearest
            if owner[nearest] < 0:
                break
            row = owner[nearest]
        row_price[start] += reached
        for column in range(m):
            if done[column]:
                if owner[column] >= 0:
                    row_price[owner[column]] += reached - distance[column]
                column_price[column] -= reached - distance[column]
        while via >= 0:
            previous = came_from[via]
            owner[via] = owner[previous] if previous >= 0 else start
            via = previous
    return owner
