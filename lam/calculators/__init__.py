"""Potentials as simulation codes see them: the ASE calculator, and batched prediction."""

from lam.calculators.calculator import LAMCalculator
from lam.calculators.predictor import Prediction, Predictor

__all__ = ["LAMCalculator", "Prediction", "Predictor"]
