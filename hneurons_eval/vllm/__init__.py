"""Sampling, capture and scaling on vLLM: `hneurons-vllm/<model>`; see docs/vllm.md.

`provider.py` is the Inspect provider over two engines (`base.py`): `engine.py` runs vLLM in this process, `client.py`
uses a vLLM server. `requests.py` turns a request into vLLM's parameters and vLLM's output into a result.

In vLLM's workers, `worker.py` is the extension, `hooks.py` the hooks, `projections.py` the modules they are put on,
`steps.py` the plan of one step, `factors.py` the scaling factors, and `captures.py` what was captured;
`request_extras.py` is what a request carries to them.

In a server, vLLM loads `plugin.py` and `serve.py`; `admission.py` bounds what clients may ask, and `protocol.py` is
what client and server agree on.
"""
