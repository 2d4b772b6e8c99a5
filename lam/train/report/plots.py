"""The plots of a training's page. Each function draws one file and returns its path, or None without data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lam.plot_style import BLUE, FAINT, GREY, INK, ORANGE, PALE, ink_on, new_figure, periodic_position
from lam.train.losses import TERMS
from lam.train.report.gather import Run, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS: Final = {"energy": BLUE, "forces": ORANGE, "stress": "#3a8a4d"}
_PALETTE: Final = (BLUE, ORANGE, "#3a8a4d", "#8456a8", "#a8324a", "#b08900", "#2a9d9d", GREY)
_BINS: Final = 60
"""Columns of the map of the heads' losses."""
_ATOMS_OF_TABLE: Final = 103


def write_plots(run: Run, folder: Path) -> dict[str, Path]:
    """Write every plot that the logs allow; return the files by title."""
    drawings: dict[str, Callable[[Run, Path], Path | None]] = {
        "Loss by term": plot_losses,
        "Loss by head": plot_heads,
        "Validation": plot_validation,
        "Force error of each head": plot_ratios,
        "Force error of each element": plot_elements,
        "Learning rate and gradients": plot_optimisation,
        "Speed": plot_speed,
    }
    made = {}
    for title, draw in drawings.items():
        path = draw(run, folder / f"{draw.__name__.removeprefix('plot_')}.png")
        if path is not None:
            made[title] = path
    return made


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Return the running median of the finite values over about ``window`` entries around each, NaN without any."""
    result, half = np.full(len(values), np.nan), window // 2
    for place in range(len(values)):
        part = values[max(0, place - half) : place + half + 1]
        part = part[np.isfinite(part)]
        if len(part):
            result[place] = np.median(part)
    return result


def _curve(axes: Axes, series: Series, colour: str, label: str | None = None, *, noisy: bool = True) -> None:
    """Draw a curve; of a noisy one the values faintly, their running median on top."""
    finite = np.isfinite(series.values)
    steps, values = series.steps[finite], series.values[finite]
    window = max(1, len(values) // 40) if noisy else 1
    mark = "o" if len(values) < 3 else None  # a line of one point is nothing to see
    if window > 1:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.7)
    axes.plot(steps, smooth(values, window), color=colour, linewidth=1.4, marker=mark, markersize=4, label=label)


def _logarithmic(axes: Axes, *series: Series | None) -> None:
    """Make the vertical axis logarithmic if all values allow it and spread."""
    values = np.concatenate([s.values[np.isfinite(s.values)] for s in series if s is not None] or [np.empty(0)])
    if len(values) and values.min() > 0 and values.max() > 2 * values.min():
        axes.set_yscale("log")
        if values.max() < 10 * values.min():
            from matplotlib.ticker import LogLocator

            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter("")
        axes.yaxis.set_major_formatter("{x:g}")


def _finish(axes: Axes, run: Run, title: str, label: str) -> None:
    axes.set(title=title, xlabel="step", ylabel=label)
    axes.set_xlim(0, max(run.step, 1) * 1.02)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="y", color=PALE)


# -- losses ------------------------------------------------------------------------------------


def plot_losses(run: Run, path: Path) -> Path | None:
    """Draw the loss of each term of the logged steps, in units of the heads' scales."""
    found = {term: series for term in TERMS if (series := run.metrics.get(f"train/{term}")) is not None}
    if not found:
        return None
    with new_figure(path, 9.0, 3.6) as figure:
        axes = figure.add_subplot()
        for term, series in found.items():
            _curve(axes, series, _COLOURS[term], term)
        _logarithmic(axes, *found.values())
        _finish(axes, run, "Loss of single steps by term, with its running median", "in units of the heads' scales")
        axes.legend(ncols=3)
    return path


def plot_heads(run: Run, path: Path) -> Path | None:
    """Draw a map of the heads' losses over the steps for each term, the heads in order of their last force loss."""
    by_term = {term: run.losses(term) for term in TERMS}
    by_term = {term: found for term, found in by_term.items() if found}
    heads = {head for found in by_term.values() for head in found}
    if not heads:
        return None
    first = next(term for term in ("forces", "energy", "stress") if term in by_term)
    now = {head: series.recent for head, series in by_term[first].items() if math.isfinite(series.recent)}
    order = sorted(heads, key=lambda head: (now.get(head, -1.0), head))
    edges = np.linspace(0, max(run.step, 1), min(_BINS, max(1, _longest(by_term))) + 1)
    with new_figure(path, 3.4 + 2.9 * len(by_term), 1.4 + 0.19 * max(len(order), 4)) as figure:
        axes = figure.subplots(1, len(by_term), sharey=True, squeeze=False)[0]
        for place, (term, found) in enumerate(by_term.items()):
            _map(figure, axes[place], [found.get(head) for head in order], edges, f"loss, {term}")
        axes[0].set_yticks(np.arange(len(order)), order, fontsize=7)
        figure.suptitle(f"Loss of each head, largest loss ({first}) at the top; right edge: now", fontsize=11)
    return path


def _map(figure: Figure, axes: Axes, rows: list[Series | None], edges: np.ndarray, label: str) -> None:
    from matplotlib.colors import LogNorm, Normalize

    values = np.array([binned(series, edges) for series in rows])
    good = values[np.isfinite(values) & (values > 0)]
    norm = Normalize(0, 1)
    if len(good):
        low, high = np.quantile(good, [0.02, 0.98])
        low = max(low, high / 300)  # forces that vanish by symmetry would take up the scale
        norm = LogNorm(low, high) if high > low else LogNorm(low / 2, high * 2)
    axes.set_facecolor(PALE)
    image = axes.pcolormesh(
        edges,
        np.arange(len(rows) + 1) - 0.5,
        np.ma.masked_invalid(values),
        norm=norm,
        cmap="viridis_r",
        rasterized=True,
    )
    bar = figure.colorbar(image, ax=axes, location="bottom", fraction=0.02, pad=0.01, aspect=25, label=label)
    bar.ax.minorticks_off()
    bar.ax.xaxis.set_major_formatter("{x:g}")
    if len(good):
        bar.set_ticks(_round_values(norm.vmin, norm.vmax))
    axes.set_xlabel("step")
    axes.locator_params(axis="x", nbins=4)


def binned(series: Series | None, edges: np.ndarray) -> np.ndarray:
    """Return the mean of the finite values between neighbouring edges, (len(edges) - 1,); NaN where there is none."""
    count = len(edges) - 1
    if series is None:
        return np.full(count, np.nan)
    finite = np.isfinite(series.values)
    steps, values = series.steps[finite], series.values[finite]
    place = np.clip(np.searchsorted(edges, steps, side="left") - 1, 0, count - 1)
    sums, counts = np.bincount(place, values, count), np.bincount(place, minlength=count)
    return np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0)


def _longest(by_term: Mapping[str, Mapping[str, Series]]) -> int:
    return max(len(np.unique(s.steps)) for found in by_term.values() for s in found.values())


def _round_values(low: float, high: float) -> list[float]:
    """Return round values of a logarithmic scale, few of them."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1,) if high > 200 * low else (1, 3) if high > 10 * low else (1, 2, 5)
    return [d * 10.0**p for p in decades for d in digits if low <= d * 10.0**p <= high] or [low]


# -- validation --------------------------------------------------------------------------------


def plot_validation(run: Run, path: Path) -> Path | None:
    """Draw the median and the worst force error of the heads over the steps, relative to zero forces."""
    median, worst = run.metrics.get("val/force_ratio_median"), run.metrics.get("val/force_ratio_worst")
    if median is None:
        return None
    with new_figure(path, 9.0, 3.4) as figure:
        axes = figure.add_subplot()
        for series, colour, label in ((worst, ORANGE, "worst head"), (median, BLUE, "median of the heads")):
            if series is not None:
                axes.plot(series.steps, series.values, color=colour, marker="o", markersize=3, label=label)
        axes.axhline(1.0, color=INK, linewidth=0.9, linestyle="--")
        _logarithmic(axes, median, worst)
        _finish(axes, run, "Validation: force error over that of zero forces", "ratio")
        axes.legend()
    return path


def plot_ratios(run: Run, path: Path) -> Path | None:
    """Draw the last force error of each head, relative to zero forces, as bars."""
    found = {head: s for head in run.heads if (s := run.metrics.get(f"val/{head}/force_ratio")) is not None}
    if not found:
        return None
    order = sorted(found, key=lambda head: -found[head].last if math.isfinite(found[head].last) else -math.inf)
    values = np.nan_to_num(np.array([found[head].last for head in order]), nan=np.inf)
    longest = float(np.clip(values, 1.0, 1.5).max())
    with new_figure(path, 7.5, 1.2 + 0.2 * max(len(order), 3)) as figure:
        axes = figure.add_subplot()
        colours = [BLUE if value < 1 else ORANGE for value in values]
        axes.barh(np.arange(len(order)), np.minimum(values, longest), color=colours, height=0.72)
        for row, value in enumerate(values):
            text = f"{value:.2f}" + (" (bar cut)" if value > longest else "")
            axes.text(longest * 1.02, row, text, va="center", fontsize=7, color=INK)
        axes.axvline(1.0, color=INK, linewidth=0.9, linestyle="--")
        axes.set_yticks(np.arange(len(order)), order, fontsize=7)
        axes.set(ylim=(-0.6, len(order) - 0.4), xlim=(0, longest * 1.25))
        step = int(max(series.steps[-1] for series in found.values()))
        axes.set_xlabel("force error / that of zero forces")
        axes.set_title(f"Validation at step {step:,}: median {np.median(values):.2f} over {len(order)} heads")
    return path


def plot_elements(run: Run, path: Path) -> Path | None:
    """Draw a periodic table with the last force error of each element."""
    errors = {symbol: 1000 * value for symbol, value in run.element_errors().items() if math.isfinite(value)}
    if not errors:
        return None
    import matplotlib
    from ase.data import chemical_symbols
    from matplotlib.patches import Rectangle

    norm = _colour_scale(np.array(list(errors.values())))
    colours = matplotlib.colormaps["viridis_r"]
    with new_figure(path, 11.0, 6.0) as figure:
        axes = figure.add_subplot()
        for number in range(1, _ATOMS_OF_TABLE + 1):
            symbol = chemical_symbols[number]
            row, column = periodic_position(number)
            known = symbol in errors
            colour: Any = colours(norm(max(errors[symbol], norm.vmin))) if known else PALE
            axes.add_patch(Rectangle((column, -row), 0.94, -0.94, facecolor=colour, edgecolor="none"))
            middle, ink = column + 0.47, ink_on(colour) if known else FAINT
            at = {"ha": "center", "va": "center", "color": ink}
            axes.text(middle, -row - (0.32 if known else 0.47), symbol, fontsize=9 if known else 8, **at)
            if known:
                text = f"{errors[symbol]:.{0 if errors[symbol] >= 10 else 1}f}"
                axes.text(middle, -row - 0.67, text, fontsize=7.5, **at)
        axes.set(xlim=(-0.1, 18.1), ylim=(-9.5, 0.1), aspect="equal")
        axes.axis("off")
        axes.set_title("Validation: force error of each element (mean absolute component, meV/Å)")
        scale = matplotlib.cm.ScalarMappable(norm=norm, cmap="viridis_r")
        bar = figure.colorbar(scale, ax=axes, orientation="horizontal", shrink=0.5, aspect=40, pad=0.02)
        bar.set_label("meV/Å")
        if norm.vmin > 0:
            bar.set_ticks(_round_values(norm.vmin, norm.vmax), minor=False)
            bar.ax.minorticks_off()
            bar.ax.xaxis.set_major_formatter("{x:g}")
    return path


def _colour_scale(values: np.ndarray) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    values = values[values > 0]
    if not len(values):
        return Normalize(0, 1)
    low, high = float(values.min()), float(values.max())
    low = max(low, high / 1000)
    return LogNorm(low, high) if high > 3 * low else Normalize(0, high)


# -- optimisation and speed --------------------------------------------------------------------


def plot_optimisation(run: Run, path: Path) -> Path | None:
    """Draw the learning rate, the norm of the gradient in all and by module, and the steps that were skipped."""
    panels = [
        ("Learning rate", {"": run.metrics.get("train/learning_rate")}, False),
        ("Norm of the gradient", {"": run.metrics.get("train/gradient_norm")}, True),
        ("Norm of the gradient by module", dict(run.metrics.starting("gradient/")), True),
        ("Steps skipped so far", {"": run.metrics.get("train/skipped")}, False),
    ]
    panels = [(title, {k: s for k, s in found.items() if s is not None}, log) for title, found, log in panels]
    if not any(found for _, found, _ in panels):
        return None
    with new_figure(path, 10.0, 6.0) as figure:
        for place, (title, found, logarithmic) in enumerate(panels):
            axes = figure.add_subplot(2, 2, place + 1)
            for number, (name, series) in enumerate(sorted(found.items())):
                _curve(axes, series, _PALETTE[number % len(_PALETTE)], name or None, noisy=logarithmic)
            if logarithmic:
                _logarithmic(axes, *found.values())
            _finish(axes, run, title, "")
            if title.startswith("Steps"):
                high = max(axes.get_ylim()[1], 1.0)
                axes.set_ylim(-0.03 * high, high)
            if len(found) > 1:
                axes.legend(fontsize=7, ncols=2)
            if title == "Norm of the gradient" and run.config:
                _clip_line(axes, found, run.config.optimizer.gradient_clip)
    return path


def _clip_line(axes: Axes, found: Mapping[str, Series], clip: float) -> None:
    """Mark where gradients are clipped, if any comes near."""
    largest = max((float(np.nanmax(s.values)) for s in found.values() if np.isfinite(s.values).any()), default=0.0)
    if largest > clip / 5:
        axes.axhline(clip, color=INK, linewidth=0.9, linestyle="--")
        axes.text(
            0.99, clip, "clipped above", fontsize=7, ha="right", va="bottom", transform=axes.get_yaxis_transform()
        )


_SPEED: Final = (
    ("atoms_per_second", "Atoms per second, all processes", 1.0),
    ("seconds_per_step", "Seconds per step", 1.0),
    ("waiting", "Share of the time waiting, %", 100.0),
    ("imbalance", "Work of the busiest process over the mean", 1.0),
    ("memory_gb", "Most memory of a process so far, GB", 1.0),
    ("hours_to_go", "Hours to go", 1.0),
)


def plot_speed(run: Run, path: Path) -> Path | None:
    """Draw speed, waiting, imbalance, memory and the time to go."""
    found = [(title, factor, run.speed.get(f"speed/{name}")) for name, title, factor in _SPEED]
    if not any(series for *_, series in found):
        return None
    with new_figure(path, 11.0, 5.4) as figure:
        for place, (title, factor, series) in enumerate(found):
            axes = figure.add_subplot(2, 3, place + 1)
            if series is not None:
                noisy = not title.startswith("Most memory")
                _curve(axes, Series(series.steps, factor * series.values), BLUE, noisy=noisy)
            _finish(axes, run, title, "")
            low = 1.0 if "busiest" in title else 0.0
            axes.set_ylim(bottom=low, top=max(axes.get_ylim()[1], low + 0.01))
    return path
