"""Structures over the periodic table, Z = 1-86, planned and built from a seed.

:mod:`~lam.corpus.plan` shares a number of structures out over families and builds them;
:mod:`~lam.corpus.pipeline` labels, converts, audits and reports. See ``docs/corpus.md``.
"""
