"""Sampling, capture and scaling on vLLM: `hneurons-vllm/<model>`; see docs/vllm.md.

`provider.py` is the Inspect provider over two engines (`base.py`): `engine.py` runs vLLM, `served.py` talks to a server
that does. What is asked of vLLM for a request, and what becomes of its answer, is in `jobs.py`. Within vLLM's workers,
`worker.py` is the extension, `taps.py` the hooks and `projections.py` where they go; `fields.py` is what a request
carries to them. In a server, `plugin.py` and `serve.py` are what vLLM loads, `gate.py` is what they let in, and
`protocol.py` what both sides agree on.
"""
