"""Attention by hand, sine encodings, and that a query never depends on the others."""

import math

import pytest
import torch

from repose.nn.attention import Attention, TransformerLayer, sine_encoding


def test_sine_encoding_by_hand():
    """Four channels per axis pair: with 8 channels, wavelengths 2 pi and 2 pi x temperature for x, then for y."""
    code = sine_encoding(torch.tensor([[1.5, 40.0]]), 8, 100.0)[0]
    wanted = [
        math.sin(1.5), math.sin(0.015), math.cos(1.5), math.cos(0.015),
        math.sin(40.0), math.sin(0.4), math.cos(40.0), math.cos(0.4),
    ]  # fmt: skip
    assert code.tolist() == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_encoding(torch.zeros(1, 2), 6, 100.0)


def test_sine_encoding_tells_every_cell_apart():
    index = torch.arange(64 * 64)
    code = sine_encoding(torch.stack([index % 64, index // 64], -1) + 0.5, 128, 100.0)
    distance = torch.cdist(code[:256], code)
    distance[torch.arange(256), torch.arange(256)] = 9.0
    assert distance.min() > 0.5


def test_attention_is_softmax_of_scaled_products():
    torch.manual_seed(0)
    layer = Attention(8, 2)
    query, token = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    q, (k, v) = layer.q(query)[0], layer.kv(token)[0].chunk(2, -1)
    heads = [
        torch.softmax(q[:, part] @ k[:, part].T / 2, -1) @ v[:, part] for part in (slice(0, 4), slice(4, 8))
    ]  # sqrt(4) = 2
    wanted = layer.out(torch.cat(heads, -1))
    torch.testing.assert_close(layer(query, token)[0], wanted)


def test_queries_ignore_each_other_unless_told():
    torch.manual_seed(0)
    x, memory = torch.randn(1, 4, 8), torch.randn(1, 6, 8)
    alone = TransformerLayer(8, 2, 16)
    torch.testing.assert_close(alone(x, memory)[:, :1], alone(x[:, :1], memory))
    together = TransformerLayer(8, 2, 16, self_attention=True)
    assert (together(x, memory)[:, :1] - together(x[:, :1], memory)).abs().max() > 1e-3


@pytest.mark.parametrize(("self_attention", "parameters"), [(False, 198_272), (True, 264_576)])
def test_layer_size(self_attention, parameters):
    """Specification 2: 198,272 for either kind of layer; self-attention and its norm add 66,304."""
    layer = TransformerLayer(128, 4, 512, self_attention)
    assert sum(p.numel() for p in layer.parameters()) == parameters
