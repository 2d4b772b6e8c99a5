"""`lam train report`: the page of a training that runs, has just begun, was faulty, or is none."""

import json
import math
import re
from html.parser import HTMLParser

import pytest
import yaml

from lam.cli import main as cli
from lam.errors import LamError
from lam.train.logs import CsvLog
from lam.train.report import write_report
from lam.train.report.gather import Log, read_run
from lam.train.report.plots import binned, smooth
from lam.train.run import pretrain

HEADS = ["metals", "argon", "water & <ice>"]


def write_run(folder, rows, speed=(), *, steps=100, **settings):
    """Write the configuration and the logs of a training as it writes them itself; rows are (step, values)."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"name": "tiny", "output": str(folder), "manifest": "m.yaml", "steps": steps, **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    for name, entries in (("metrics", rows), ("speed", speed)):
        log = CsvLog(folder / "log" / f"{name}.csv")
        for step, entry in entries:
            log.log_metrics(entry, step=step - 1)
    return folder


def step_row(step, *, skipped=0.0):
    row = {"train/energy": 1 / step, "train/forces": 2 / step, "train/learning_rate": 1e-3, "train/gradient_norm": 3.0}
    row |= {"train/skipped": skipped, "gradient/layers.0": 1.0, "gradient/readout": 2.0}
    return row | {f"loss/{head}/forces": (2 + place) / step for place, head in enumerate(HEADS)}


def validation_row(ratio):
    row = {f"val/{head}/force_ratio": ratio + 0.2 * place for place, head in enumerate(HEADS)}
    row |= {f"val/{head}/energy_mae": 0.01 for head in HEADS}
    row |= {"val/force_ratio_median": ratio + 0.2, "val/force_ratio_worst": ratio + 0.4}
    return row | {"val/element/Cu/force_mae": 0.1, "val/element/Ar/force_mae": 0.02}


def speed_row(to_go):
    return {
        "speed/atoms_per_second": 1000.0, "speed/seconds_per_step": 0.5, "speed/waiting": 0.1, "speed/imbalance": 1.02,
        "speed/memory_gb": 0.5, "speed/hours_to_go": to_go,
    }  # fmt: skip


class Page(HTMLParser):
    """Collects what a page shows, and the tags that are not closed."""

    def __init__(self, path):
        super().__init__()
        self.images, self.text, self.open, self.links = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(attributes)
        elif tag != "meta":
            self.open.append(tag)
        self.links += [value for key, value in attributes.items() if key in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def test_a_training_that_runs(tmp_path):
    rows = [(step, step_row(step)) for step in range(10, 60, 10)]
    rows[2:2] = [(30, validation_row(0.9))]
    rows += [(50, validation_row(0.5))]
    run = write_run(tmp_path / "run", rows, [(step, speed_row(1.5)) for step in range(10, 60, 10)])
    file = write_report(run)
    page = Page(file)
    assert file == run / "report" / "index.html" and not page.open
    assert len(page.images) == 7 and all(image["src"].startswith("data:image/png;base64,") for image in page.images)
    assert not [link for link in page.links if not link.startswith("data:")]  # self-contained
    assert len(list(file.parent.glob("*.png"))) == 7
    for text in ("Step 50 of 100", "About 1.5 h to go", "water & <ice>", "1,000", "Not there yet"):
        assert (text in page.words) == (text != "Not there yet"), text
    summary = json.loads((file.parent / "report.json").read_text())
    assert summary["step"] == 50 and summary["steps"] == 100 and not summary["finished"]
    assert summary["validation"] == {
        "force_ratio_median": 0.7, "force_ratio_worst": 0.9, "step": 50, "best_force_ratio_median": 0.7
    }  # fmt: skip
    assert summary["heads"]["argon"]["force_ratio"] == pytest.approx(0.7)
    assert summary["heads"]["metals"]["loss_forces"] == pytest.approx(sum(2 / step for step in range(10, 60, 10)) / 5)
    assert summary["elements"] == {"Cu": 0.1, "Ar": 0.02}
    assert summary["speed"]["atoms_per_second"] == 1000.0


def test_a_training_that_has_just_begun(tmp_path):
    run = write_run(tmp_path / "run", [(2, step_row(2))])
    page = Page(write_report(run, tmp_path / "page"))
    assert "Step 2 of 100" in page.words and "No resumable state has been written yet" in page.words
    assert "do not hold: a validation (the first at step 100); the log of the speed." in page.words
    assert [image["alt"] for image in page.images] == ["Loss by term", "Loss by head", "Learning rate and gradients"]


def test_a_faulty_training(tmp_path):
    rows = [(10, step_row(10)), (20, step_row(20, skipped=3.0) | {"train/energy": math.nan, "train/forces": math.inf})]
    bad = validation_row(1.1) | {"val/argon/force_ratio": math.nan, "val/force_ratio_median": math.nan}
    run = write_run(tmp_path / "run", [*rows, (20, bad)], [(20, speed_row(1.0) | {"speed/waiting": 0.4})])
    with open(run / "log" / "metrics.csv", "a") as handle:
        handle.write("30,0.5,0.")  # cut off by a kill
    (run / "state").mkdir()
    (run / "state" / "last.ckpt").write_bytes(b"half of a state")
    file = write_report(run)
    words = Page(file).words
    assert "3 step(s) were skipped as faulty" in words
    assert "Worse than zero forces in the last validation: metals, water & <ice>." in words
    assert "not finite in the last validation: argon." in words
    assert "A state in the folder 'state' cannot be read" in words
    assert "40 % of the time passes outside of steps" in words
    summary = json.loads((file.parent / "report.json").read_text())  # NaN would be no JSON
    assert summary["step"] == 20 and summary["last"]["energy"] is None and summary["last"]["skipped"] == 3
    assert (
        summary["states"] == [{"name": "last.ckpt", "step": None, "processes": None, "megabytes": 0.0}]
        and "NaN" not in (file.parent / "report.json").read_text()
    )


def test_sixty_heads_are_told_apart(tmp_path):
    heads = [f"set-{number:02d}" for number in range(60)]
    rows = [(s, {f"loss/{h}/forces": (n + 1) / s for n, h in enumerate(heads)}) for s in (10, 20)]
    ratios = {f"val/{h}/force_ratio": 0.01 * (n + 1) for n, h in enumerate(heads)}
    file = write_report(write_run(tmp_path / "run", [*rows, (20, ratios)]))
    words = Page(file).words
    worst = words.partition("largest force loss")[2]
    assert re.findall(r"set-\d\d", worst)[:4] == ["set-59", "set-00", "set-58", "set-01"]
    assert all(head in words for head in heads)


def test_the_page_of_a_real_training(settings, tmp_path, capsys):
    pretrain(settings(log={"keep": 2}))
    run = tmp_path / "run"
    assert cli.main(["train", "report", str(run), "-o", str(tmp_path / "page")]) == 0
    assert f"Wrote {tmp_path / 'page' / 'index.html'}" in capsys.readouterr().out
    page, summary = Page(tmp_path / "page" / "index.html"), json.loads((tmp_path / "page" / "report.json").read_text())
    assert "Finished: 12 steps." in page.words and len(page.images) == 7
    assert summary["finished"] and summary["processes"] == 1 and summary["step"] == 12
    states = {state["name"]: state["step"] for state in summary["states"]}
    assert states["last.ckpt"] == 12 and states["best.ckpt"] in (6, 12) and {"step-000000009.ckpt"} <= states.keys()
    assert set(summary["heads"]) == {"metals", "argon"} and "Ar" in summary["elements"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda run: None, "There is no folder"),
        (lambda run: run.mkdir(), "holds neither 'config.yaml' nor 'log/metrics.csv'"),
        (
            lambda run: write_run(run, [], log={"every": 25}),
            r"logged nothing yet: its first line is written at step 25",
        ),
    ],
)
def test_nothing_to_report_is_one_sentence(make, message, tmp_path):
    make(tmp_path / "run")
    with pytest.raises(LamError, match=message) as error:
        write_report(tmp_path / "run")
    assert "\n" not in str(error.value) and not (tmp_path / "run" / "report").exists()


def test_logs_without_a_configuration_or_of_another_version_are_shown(tmp_path):
    run = write_run(tmp_path / "run", [(2, step_row(2))], from_the_future=3)
    assert "from_the_future: 3" in Page(write_report(run)).words
    (run / "config.yaml").unlink()
    assert "Step 2; last line" in Page(write_report(run)).words
    assert read_run(run).config is None


def test_the_checkpoint_is_not_written_over(tmp_path):
    run = write_run(tmp_path / "run", [(2, step_row(2))], name="report")
    with pytest.raises(LamError, match="where the checkpoint of this training goes"):
        write_report(run)
    (tmp_path / "file").touch()
    with pytest.raises(LamError, match="is a file"):
        write_report(run, tmp_path / "file")


def test_columns_without_their_empty_cells(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("step,a,b\n1,2.0,\n2,,nan\n2,3.0,x\n3,4.0,1\n4,1\nx,1,1\n")
    log = Log(file)
    assert log.get("a").steps.tolist() == [1, 2, 3] and log.get("a").values.tolist() == [2.0, 3.0, 4.0]
    assert log.get("b").steps.tolist() == [2, 3] and math.isnan(log.get("b").values[0])
    assert log.last_step == 3 and Log(tmp_path / "none.csv").last_step is None


def test_binned_and_smoothed_values(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("step,a\n" + "".join(f"{s},{v}\n" for s, v in [(1, 1), (2, 3), (5, "nan"), (8, 7), (10, 9)]))
    series = Log(file).get("a")
    assert binned(series, [0, 2, 6, 10]).tolist()[0] == 2.0 and math.isnan(binned(series, [0, 2, 6, 10])[1])
    assert binned(series, [0, 2, 6, 10])[2] == 8.0
    assert math.isnan(binned(None, [0, 1])[0])
    assert smooth(series.values, 3).tolist() == [2.0, 2.0, 5.0, 8.0, 8.0]
