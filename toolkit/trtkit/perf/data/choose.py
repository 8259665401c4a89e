# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the options of a run ask to be sent: the pool of requests, their order, their times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trtkit.errors import DataError, ProjectError
from trtkit.perf.data.datasets import DataOptions, make_pool, project_pool, trace_pool
from trtkit.perf.data.folders import image_pool, text_pool
from trtkit.perf.data.generated import Values, parse_range
from trtkit.perf.data.pool import Pool, joined
from trtkit.perf.data.shapes import Shapes
from trtkit.perf.data.trace import Trace, read_fixed_schedule, read_intervals, read_trace
from trtkit.perf.data.workload import input_specs
from trtkit.perf.jobs import weighted_order
from trtkit.perf.options import Options
from trtkit.perf.server.control import ModelDescription
from trtkit.project import Project
from trtkit.repository import latest
from trtkit.signature import Signature

Describe = Callable[[str], ModelDescription]


@dataclass(frozen=True)
class Choice:
    """What is sent.

    Attributes:
        pool: the requests.
        order: numbers of the requests in the order to send; the pool's own when empty.
        times_ns: the gaps or times of an open loop, from a file; empty otherwise.
        unique: whether no two requests are equal, and none is to be sent twice.
    """

    pool: Pool
    order: tuple[int, ...] = ()
    times_ns: tuple[int, ...] = ()
    unique: bool = False


def choose(
    options: Options, descriptions: Mapping[str, ModelDescription], describe: Describe, project: Project | None
) -> Choice:
    """The requests that the options name, for each of the models.

    Raises:
        DataError: data that cannot be read, or that a model does not take.
        ProjectError: a batch size a model does not take, or several models where one is needed.
    """
    pools = {name: _pool_of(options, name, description, project) for name, description in descriptions.items()}
    first = _aimed(next(iter(pools.values())), options)
    if options.trace or options.fixed_schedule:
        return _of_trace(options, first, describe)
    if options.schedule_s:
        return Choice(first, times_ns=tuple(round(at * 1e9) for at in options.schedule_s))
    if len(pools) == 1:
        gaps = read_intervals(options.intervals) if options.intervals else ()
        return Choice(first, times_ns=gaps)
    return _mixed(options, {name: _aimed(pool, options) for name, pool in pools.items()})


def _aimed(pool: Pool, options: Options) -> Pool:
    return pool.aimed(
        version=options.version, outputs=options.outputs or None, parameters=dict(options.request_parameters)
    )


def _mixed(options: Options, pools: Mapping[str, Pool]) -> Choice:
    weights = dict(options.models)
    shares, start = [], 0
    for name, pool in pools.items():
        shares.append((range(start, start + len(pool)), weights[name]))
        start += len(pool)
    whole = joined(list(pools.values()))
    return Choice(whole, weighted_order(shares, options.seed))


def _of_trace(options: Options, own: Pool, describe: Describe) -> Choice:
    trace = _read(options)
    pool, order = trace_pool(trace, own, describe, _data_options(options, {}))
    return Choice(_aimed(pool, options), tuple(order), tuple(trace.offsets_ns.tolist()))


def _read(options: Options) -> Trace:
    if options.trace:
        return read_trace(options.trace)
    return read_fixed_schedule([Path(source) for source in options.input_data])


def _pool_of(options: Options, model: str, description: ModelDescription, project: Project | None) -> Pool:
    """The data of one model."""
    recorded = _recorded_shapes(model, options.repository, input_specs(description.metadata).keys())
    data = _data_options(options, recorded)
    size = options.batch_size
    for flag, named in (("--input", options.input), ("--images", options.images), ("--texts", options.texts)):
        if named and not named.exists():
            raise DataError(f"{flag}: there is no file or folder '{named}'")
    if options.images:
        return image_pool(options.images, description, batch_size=size, shapes=data.shapes)
    if options.texts:
        return text_pool(options.texts, description, batch_size=size, shapes=data.shapes)
    sources = [str(options.input)] if options.input else list(options.input_data)
    if sources:
        return make_pool(sources, description, data)
    known = project is not None and model in project.models
    if options.calibration and not known:
        raise ProjectError(f"--calibration needs a project file with the model '{model}' and its `calibration:` block")
    if project is not None and known and not (options.shapes or options.ranges):
        pool = project_pool(project, model, description, batch_size=size, calibration=options.calibration)
        if pool is not None:
            return pool
    return make_pool([], description, data)


def _data_options(options: Options, recorded: Mapping[str, list[int]]) -> DataOptions:
    values = Values(
        ranges=dict(map(parse_range, options.ranges)),
        string_length=options.string_length,
        string=options.string_data.encode() or None,
    )
    named = {name for text in options.shapes for name in text.rpartition(":")[0].split(",")}
    sizes = [f"{name}:{','.join(map(str, dims))}" for name, dims in recorded.items() if name not in named]
    shapes = Shapes.parse([*options.shapes, *sizes])
    return DataOptions(options.batch_size, shapes, values, seed=options.seed)


def _recorded_shapes(model: str, repository: Path | None, inputs: object) -> dict[str, list[int]]:
    """Sizes for inputs with dynamic axes, as the published version's record found them to work; without the batch."""
    published = latest(repository, model) if repository else None
    if published is None or "axis_size" not in published.record:
        return {}
    record = published.record
    first = 1 if record["max_batch_size"] else 0
    specs = Signature.from_json(record["signature"]).inputs
    sizes = {spec.name: [record["axis_size"] if dim == -1 else dim for dim in spec.dims[first:]] for spec in specs}
    return {spec.name: sizes[spec.name] for spec in specs if -1 in spec.dims[first:] and spec.name in inputs}  # type: ignore[operator]
