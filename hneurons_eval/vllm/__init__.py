"""Sampling, capture and scaling on vLLM: `hneurons-vllm/<model>`; see docs/vllm.md.

`provider.py` is the Inspect provider over `engine.py`, which runs vLLM. Within vLLM's workers, `worker.py` is the
extension, `taps.py` the hooks and `projections.py` where they go; `fields.py` is what a request carries to them.
"""
