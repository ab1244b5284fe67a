"""The benchmark's tables and figure, from made-up times."""

import json

import pytest

from paper_figures import exhibit
from paper_figures.exhibits import speed
from paper_figures.load import Results, ResultsError

pytestmark = pytest.mark.any_backend

ENVIRONMENT = {
    "backend": "jax",
    "backend_version": "1.2",
    "keras": "3.4",
    "device": "a device",
    "cores": 2,
    "commit": "0123456789",
    "modified": False,
    "keeps_freed_memory": True,
}


def write_benchmark(folder, backend="jax", peer=4.0):
    times = ["backend,mode,shape,what,median_ms,q25_ms,q75_ms,rounds"]
    for what in speed.LAYERS:
        median = 2.0 if what in ("brn", "bn") else peer
        for size in (64, 4, 16):
            for shape in (f"{size}x16x16x64", f"32x8x8x{size}"):
                row = (backend, "jit", shape, what, size * median, size * median - 1, 99, 5)
                times.append(",".join(map(str, row)))
    for what, median in (("copy", 2.0), ("copy", 2.0), ("moments, one group", 5.0)):
        times.append(f'{backend},jit,parts of 8x4,"{what}",{median},1,9,5')
    times.append(f"{backend},jit,2x4,brn,0.25,0.2,0.3,5")
    ratios = [
        "backend,name,shape,ratio,q25,q75,bar,met",
        f"{backend},BRN / BN,8x4,0.5,0.25,0.75,1,yes",
        f"{backend},BRN / BN,16x4,1.5,1.25,1.75,1,no",
        f"{backend},held,8x4,1,1,1,1.1,yes",
        f"{backend},pipeline,8x4,123.4,120,130,10,yes",
    ]
    (folder / f"benchmark-{backend}.csv").write_text("\n".join(times))
    (folder / f"benchmark-{backend}-ratios.csv").write_text("\n".join(ratios))
    made = {**ENVIRONMENT, "backend": backend}
    (folder / f"benchmark-{backend}-environment.json").write_text(json.dumps(made))


@pytest.fixture
def measured(tmp_path):
    """The benchmarks of two backends."""
    write_benchmark(tmp_path)
    write_benchmark(tmp_path, "torch")
    return speed.load_speed(tmp_path)


def test_no_benchmarks(tmp_path):
    assert speed.load_speed(tmp_path) is None


@pytest.mark.parametrize("name", ["benchmark-jax.csv", "benchmark-jax-ratios.csv"])
def test_a_missing_file_is_named(tmp_path, name):
    write_benchmark(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ResultsError, match=f"none at .*{name}"):
        speed.load_speed(tmp_path)


def test_environments(measured):
    assert measured.environments == [
        "jax 1.2, Keras 3.4: a device, 2 cores, commit 0123456, freed memory kept",
        "torch 1.2, Keras 3.4: a device, 2 cores, commit 0123456, freed memory kept",
    ]


def test_every_ratio_with_its_spread_and_bar(measured):
    assert speed.show_ratios(measured).to_numpy().tolist()[:4] == [
        ["jax", "BRN / BN", "8x4", "0.50 [0.25, 0.75]", "1", "yes"],
        ["jax", "BRN / BN", "16x4", "1.50 [1.25, 1.75]", "1", "no"],
        ["jax", "held", "8x4", "1.00", "1.1", "yes"],
        ["jax", "pipeline", "8x4", "123 [120, 130]", "10", "yes"],
    ]


def test_the_summary_is_a_range_over_shapes(measured):
    assert speed.summarize(measured).to_dict("list") == {
        "ratio (bar)": ["BRN / BN (1)", "held (1.1)", "pipeline (10)"],
        "jax": ["0.50 to 1.50, 1 of 2", "1.00, 1 of 1", "123, 1 of 1"],
        "torch": ["0.50 to 1.50, 1 of 2", "1.00, 1 of 1", "123, 1 of 1"],
    }


def test_a_ratio_of_one_backend_alone(tmp_path):
    write_benchmark(tmp_path)
    write_benchmark(tmp_path, "torch")
    path = tmp_path / "benchmark-torch-ratios.csv"
    path.write_text(path.read_text().replace("torch,held", "torch,kept"))
    summary = speed.summarize(speed.load_speed(tmp_path)).set_index("ratio (bar)")
    assert summary.loc["held (1.1)"].tolist() == ["1.00, 1 of 1", "-"]
    assert summary.loc["kept (1.1)"].tolist() == ["-", "1.00, 1 of 1"]


def test_parts_in_copies_and_calls(measured):
    assert speed.show_parts(measured).to_numpy().tolist() == [
        ["jax", "jit", "parts of 8x4", "moments, one group", "5.00", "2.5"],
        ["torch", "jit", "parts of 8x4", "moments, one group", "5.00", "2.5"],
        ["jax", "jit", "2x4", "brn", "0.25", "-"],
        ["torch", "jit", "2x4", "brn", "0.25", "-"],
    ]


def test_growth_is_ours_over_keras_by_shape(measured, tmp_path):
    write_benchmark(tmp_path, "torch", peer=1.0)
    path = tmp_path / "benchmark-torch.csv"
    path.write_text(path.read_text().replace("torch,jit,64x16x16x64", "torch,jit,other"))
    shown = speed.show_growth(speed.load_speed(tmp_path))
    assert shown.columns.tolist() == ["shape", "jax", "torch"]
    assert shown.to_numpy().tolist()[:4] == [
        ["4x16x16x64", "0.50", "2.00"],
        ["16x16x16x64", "0.50", "2.00"],
        ["64x16x16x64", "0.50", "-"],
        ["32x8x8x4", "0.50", "2.00"],
    ]


@pytest.mark.parametrize("kind", speed.GROWTH)
def test_a_curve_is_sorted_by_size(measured, kind):
    points = speed.curve(measured, "jax", "Keras bn", speed.GROWTH[kind][0])
    assert points["median_ms"].to_dict() == {4: 16.0, 16: 64.0, 64: 256.0}


@pytest.mark.parametrize("stacked", [False, True])
def test_the_figure_has_a_panel_for_each_backend_and_size(measured, stacked):
    axes = speed.draw_growth(measured, stacked).axes
    assert [panel.get_title() for panel in axes] == ["jax", "jax", "torch", "torch"]
    assert all(len(panel.get_lines()) == len(speed.LAYERS) for panel in axes)
    assert axes[0].get_lines()[0].get_ydata().tolist() == [8.0, 32.0, 128.0]


def test_the_exhibit_has_the_figure_the_tables_and_what_they_were_measured_on(tmp_path):
    write_benchmark(tmp_path)
    (shown,) = speed.exhibits(Results(tmp_path, [], None))
    written = exhibit.write(shown, tmp_path, ["png"])
    names = ("growth.png", "summary.md", "ratios.md", "growth.md", "parts.md")
    assert written == [f"speed/{name}" for name in names]
    assert "| 0.50 to 1.50, 1 of 2 |" in (tmp_path / "speed" / "summary.md").read_text()
    environment = "jax 1.2, Keras 3.4: a device, 2 cores, commit 0123456, freed memory kept"
    assert shown.section.environment == (environment,)


def test_without_benchmarks_there_is_no_exhibit(tmp_path):
    assert list(speed.exhibits(Results(tmp_path, [], None))) == []
