"""Choose which structures to label or to train on: by coverage or diversity of features, or by uncertainty.

:func:`select` does what ``lam data select`` does. Structures stream through the model once
(:mod:`lam.select.features`); what is kept of each is small. A criterion (:mod:`lam.select.coverage`,
:mod:`lam.select.farthest`, :mod:`lam.select.information`) then names one structure after the other
(:mod:`lam.select.greedy`), so that the first n of a selection are the selection of n.
"""

from lam.select.run import METHODS, Selection, Settings, select

__all__ = ["METHODS", "Selection", "Settings", "select"]
