"""From Xen Orchestra's (XO's) configuration to ours: its export, or its REST API, in; sections and remarks out.

Pure: nothing here opens a file or a connection. :mod:`export` and :mod:`rest` give :class:`~.records.Records`;
:func:`~.plan.translate` turns them into sections of our configuration; :mod:`toml` writes those. What it promises:

- Every section it gives is one the configuration's model accepts; others are refused, alone, with a reason.
- Every option it finds is translated, or there is a remark about it. Nothing is dropped silently.
- A job keeps its id and its schedule's, so that chains go on and retention counts what is there. A job whose restore
  points our retention would delete where XO keeps them is refused.
- Secrets are apart from sections (:mod:`credentials`); no remark shows one.
- Any input raises only :class:`~.errors.BadExport`.
"""
