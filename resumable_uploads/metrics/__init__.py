"""Metrics for Prometheus: optional, off unless installed as an app and mounted.

Add ``"resumable_uploads.metrics"`` to INSTALLED_APPS in every process that opens or
completes uploads, and mount the view where Prometheus gets to, and nobody else::

    path("metrics/", include("resumable_uploads.metrics.urls"))
"""
