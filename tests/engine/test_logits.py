"""How sure a model is of a token, whatever the dtype and the logits."""

import pytest
import torch

from hneurons_eval.engine.logits import final_states, logsumexp_and_entropy


@pytest.mark.parametrize("rows", [1, 16, 37])
def test_logsumexp_and_entropy_are_those_of_the_softmax(rows: int):
    logits = torch.randn(rows, 501, generator=torch.Generator().manual_seed(rows)) * 5 + 100
    logsumexp, entropy = logsumexp_and_entropy(logits)
    shares = logits.double().log_softmax(dim=-1)
    torch.testing.assert_close(logsumexp, logits.double().logsumexp(dim=-1).float(), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(entropy, -(shares.exp() * shares).sum(dim=-1).float(), rtol=1e-5, atol=1e-5)


def test_forbidden_tokens_add_nothing():
    logits = torch.tensor([[0.0, 0.0, -torch.inf], [5.0, -torch.inf, -torch.inf]])
    logsumexp, entropy = logsumexp_and_entropy(logits)
    torch.testing.assert_close(entropy, torch.tensor([2.0, 1.0]).log())
    torch.testing.assert_close(logsumexp, torch.tensor([2.0, torch.e**5]).log())


def test_half_precision_is_computed_in_single():
    logits = torch.randn(4, 4096, generator=torch.Generator().manual_seed(0)).bfloat16()
    logsumexp, entropy = logsumexp_and_entropy(logits)
    assert logsumexp.dtype == entropy.dtype == torch.float32
    shares = logits.double().log_softmax(dim=-1)
    torch.testing.assert_close(entropy, -(shares.exp() * shares).sum(dim=-1).float(), rtol=1e-5, atol=1e-4)


def test_final_states_leave_no_hook(tiny_model):  # type: ignore[no-untyped-def]
    model = tiny_model("llama")
    with torch.no_grad(), final_states(model) as seen:
        output = model(torch.tensor([[3, 4, 5]]), output_hidden_states=True)
    torch.testing.assert_close(seen[0], output.hidden_states[-1])
    with torch.no_grad():
        model(torch.tensor([[3]]))
    assert len(seen) == 1


def test_logits_of_the_wanted_positions_are_those_that_all_would_have(tiny_model):  # type: ignore[no-untyped-def]
    model = tiny_model("gemma2")  # which caps its logits after the output embedding
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
    wanted = torch.tensor([[False, True, True], [False, False, True]])
    with torch.no_grad():
        whole = model(ids, logits_to_keep=3).logits
        with final_states(model, wanted) as seen:
            some = model(ids, logits_to_keep=3).logits
    assert seen[0].shape[:2] == (2, 3)
    torch.testing.assert_close(some[0], whole[wanted])
