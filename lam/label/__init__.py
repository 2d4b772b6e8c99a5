"""Label structures with a reference method: engines, time limits, many at once, nothing lost when killed.

An engine (:mod:`lam.label.engines`) turns one structure into energy, forces and stress. It runs in a process of
its own that can be killed (:mod:`lam.label.killable`); workers write each label to a journal of their own as soon
as it is there (:mod:`lam.label.journal`); :mod:`lam.label.run` shares out the work and collects the labels.
"""
