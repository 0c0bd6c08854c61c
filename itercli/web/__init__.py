"""Runs as web pages: page data (`data`), which knows no HTML, and pages made from it (`page`)."""
