"""How good a model is: errors against labels, beside the composition-only baseline, with plots."""

from lam.evaluate.evaluate import Evaluation, Progress, evaluate
from lam.evaluate.plots import write_plots
from lam.evaluate.report import write_report
from lam.evaluate.sources import EvaluationSet, open_data

__all__ = ["Evaluation", "EvaluationSet", "Progress", "evaluate", "open_data", "write_plots", "write_report"]
