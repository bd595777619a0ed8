"""The demo: a real web app, its database and a real request log, first without Samovar, then with it.

``make demo`` prepares everything and runs it; with everything installed, ``python -m examples.demo`` from the
root of the repository does too.
"""
