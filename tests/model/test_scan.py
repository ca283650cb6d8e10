"""The selective scan against a plain float64 recurrence, and the Mamba mixer against the one of transformers."""

from types import MethodType

import pytest
import torch
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

import mamba_bdam
from mamba_bdam import PLAIN, BDAMMambaMixer, BDAMSelectiveScan, selective_scan


NAMES = ("u", "delta", "A", "B", "C")


def make_inputs(batch_size=2, seq_len=11, channels=5, state_size=3, dtype=torch.float64):
    torch.manual_seed(0)
    u = torch.randn(batch_size, seq_len, channels, dtype=dtype)
    delta = torch.rand_like(u)
    A = -torch.rand(channels, state_size, dtype=dtype) * 4
    B, C = torch.randn(2, batch_size, seq_len, state_size, dtype=dtype)
    return [x.clone().requires_grad_() for x in (u, delta, A, B, C)]


def reference_scan(u, delta, A, B, C):
    """Equation 2 of the Mamba paper, step by step, building (batch_size, seq_len, channels, state_size) tensors."""
    decay = torch.exp(delta.unsqueeze(-1) * A)
    update = (delta * u).unsqueeze(-1) * B.unsqueeze(2)
    states = [torch.zeros_like(update[:, 0])]
    for decay_t, update_t in zip(decay.unbind(1), update.unbind(1), strict=True):
        states.append(decay_t * states[-1] + update_t)
    return (torch.stack(states[1:], dim=1) * C.unsqueeze(2)).sum(-1)


def outputs_and_gradients(function, inputs):
    """The output of `function` and the gradients of a fixed, non-uniform projection of it."""
    y = function(*inputs)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype, device=y.device).view_as(y)
    return y, *torch.autograd.grad((y * weights).sum(), inputs)


def assert_same_scan(inputs, reference_inputs, function=selective_scan, **tolerances):
    results = outputs_and_gradients(function, inputs)
    expected = outputs_and_gradients(reference_scan, reference_inputs)
    for name, result, reference in zip(("y", *NAMES), results, expected, strict=True):
        torch.testing.assert_close(
            result, reference.to(result.dtype), **tolerances, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("shape", [(2, 1, 5, 3), (1, 2, 1, 1), (3, 8, 5, 16), (2, 16, 4, 3), (2, 29, 7, 4)])
def test_scan_equals_plain_recurrence(shape):
    inputs = make_inputs(*shape)
    assert_same_scan(inputs, inputs)


def test_scan_in_float32():
    inputs = make_inputs(4, 67, 8, 16)
    assert_same_scan([x.detach().float().requires_grad_() for x in inputs], inputs, rtol=1e-4, atol=1e-5)


def test_gradcheck():
    assert torch.autograd.gradcheck(selective_scan, make_inputs(2, 10, 2, 2))


def test_second_derivative_is_refused():
    inputs = make_inputs()
    (gradient,) = torch.autograd.grad(selective_scan(*inputs).square().sum(), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_single_step_equals_fused_scan():
    inputs = make_inputs(seq_len=1)
    single = outputs_and_gradients(selective_scan, inputs)
    fused = outputs_and_gradients(BDAMSelectiveScan.apply, inputs)
    torch.testing.assert_close(single, fused)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seq_len", [1, 19])
def test_half_precision_is_computed_in_float32(dtype, seq_len):
    half = [x.detach().to(dtype).requires_grad_() for x in make_inputs(seq_len=seq_len)]
    single = [x.detach().float().requires_grad_() for x in half]
    y = selective_scan(*half)
    assert y.dtype == dtype
    torch.testing.assert_close(y, selective_scan(*single).to(dtype))


def test_autocast_leaves_scan_in_float32():
    inputs = make_inputs(dtype=torch.float32)
    expected = outputs_and_gradients(selective_scan, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = outputs_and_gradients(selective_scan, inputs)
    torch.testing.assert_close(results, expected, rtol=0, atol=0)


@pytest.mark.parametrize("step", [0.0, 1e-30, 1e-4, 30.0, 1e4])
@pytest.mark.parametrize("rate", [-1e-6, -1.0, -1e4])
def test_extreme_decays_stay_finite_and_exact(step, rate):
    u, delta, A, B, C = make_inputs(seq_len=21)
    inputs = [u, torch.full_like(delta, step).requires_grad_(), torch.full_like(A, rate).requires_grad_(), B, C]
    in_float32 = [x.detach().float().requires_grad_() for x in inputs]
    assert all(x.isfinite().all() for x in outputs_and_gradients(selective_scan, in_float32))
    assert_same_scan(inputs, inputs)


def test_non_contiguous_inputs():
    inputs = make_inputs(channels=3, state_size=3)
    strided = [x.detach().transpose(0, -1).contiguous().transpose(0, -1).requires_grad_() for x in inputs]
    assert not any(x.is_contiguous() for x in strided)
    assert_same_scan(strided, inputs)


def channels_first(u, delta, A, B, C):
    """The scan in the layout of GPU kernels, `(batch_size, channels, seq_len)`."""
    u, delta, B, C = (x.transpose(1, 2) for x in (u, delta, B, C))
    return reference_scan(u, delta, A, B, C).transpose(1, 2)


def refuse(*args):
    raise AssertionError("a kernel for GPUs was called on CPU tensors")


class PlainLayer(torch.nn.Module):
    """What `kernels` makes of a function: a layer, whose `forward` it replaces by that of another one."""

    forward = staticmethod(refuse)


class Kernel(torch.nn.Module):
    def forward(self, *inputs):
        return channels_first(*inputs)


def stand_in(is_replaced: bool) -> PlainLayer:
    layer = PlainLayer()
    layer.forward = MethodType((Kernel if is_replaced else PlainLayer).forward, layer)
    return layer


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Tensors of the CPU are scanned as those of CUDA would be."""
    choose = mamba_bdam.choose_scan
    monkeypatch.setattr(mamba_bdam, "choose_scan", lambda device_type: choose("cuda"))


@pytest.mark.parametrize(
    "device_type, is_replaced, has_mamba_ssm, name, reason",
    [
        ("cpu", True, True, PLAIN, "on the CPU"),
        ("cuda", True, True, "kernels", "use_kernels=True"),
        ("cuda", True, False, "kernels", "use_kernels=True"),
        ("cuda", False, True, "mamba_ssm", "installed"),
        ("cuda", False, False, PLAIN, "undefined symbol"),
        ("xpu", True, False, "kernels", "use_kernels=True"),
        ("xpu", False, True, PLAIN, "no kernel for xpu"),
    ],
)
def test_order_of_choice(monkeypatch, device_type, is_replaced, has_mamba_ssm, name, reason):
    monkeypatch.setattr(mamba_bdam, "selective_scan_fn", stand_in(is_replaced))
    monkeypatch.setattr(mamba_bdam, "mamba_ssm_scan", refuse if has_mamba_ssm else None)
    monkeypatch.setattr(mamba_bdam, "import_error", ImportError("undefined symbol"), raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: device_type != "cpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(device_type))
    chosen, why = mamba_bdam.choose_scan(device_type)
    assert chosen == name and reason in why
    assert mamba_bdam.describe_scan().startswith(f"{name} ({why}; kernels: ")


def test_cpu_tensors_never_reach_a_kernel_for_gpus(monkeypatch):
    monkeypatch.setattr(mamba_bdam, "mamba_ssm_scan", refuse)
    monkeypatch.setattr(mamba_bdam, "selective_scan_fn", refuse)
    inputs = make_inputs(dtype=torch.float32)
    torch.testing.assert_close(selective_scan(*inputs), reference_scan(*inputs))


@pytest.mark.parametrize("name", ["kernels", "mamba_ssm"])
def test_a_kernel_gets_channels_before_steps(monkeypatch, as_on_a_gpu, name):
    monkeypatch.setattr(mamba_bdam, "mamba_ssm_scan", refuse if name == "kernels" else channels_first)
    if name == "kernels":
        monkeypatch.setattr(mamba_bdam, "selective_scan_fn", stand_in(is_replaced=True))
    inputs = make_inputs(dtype=torch.float32)
    assert mamba_bdam.choose_scan("cpu")[0] == name
    torch.testing.assert_close(selective_scan(*inputs), reference_scan(*inputs))


def test_float64_is_left_to_the_own_scan(monkeypatch, as_on_a_gpu):
    monkeypatch.setattr(mamba_bdam, "mamba_ssm_scan", refuse)
    inputs = make_inputs()
    torch.testing.assert_close(selective_scan(*inputs), reference_scan(*inputs))


@pytest.mark.gpu
@pytest.mark.skipif(
    mamba_bdam.mamba_ssm_scan is None or not torch.cuda.is_available(),
    reason="needs mamba_ssm and a CUDA device",
)
def test_cuda_kernel_equals_plain_recurrence():
    inputs = make_inputs(4, 67, 8, 16)
    on_cuda = [x.detach().float().cuda().requires_grad_() for x in inputs]
    reference = [x.detach().cuda().requires_grad_() for x in inputs]
    assert_same_scan(on_cuda, reference, rtol=1e-3, atol=1e-4)


def make_mixers(hidden_size=24, state_size=5, conv_kernel=4):
    torch.manual_seed(0)
    config = MambaConfig(hidden_size=hidden_size, state_size=state_size, conv_kernel=conv_kernel, num_hidden_layers=1)
    return BDAMMambaMixer(hidden_size, state_size, conv_kernel), MambaMixer(config, layer_idx=0)


def test_mixer_exchanges_weights_with_transformers():
    ours, theirs = make_mixers()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(theirs.state_dict(), strict=True)


@pytest.mark.parametrize("seq_len", [1, 5, 33])
def test_mixer_equals_transformers(seq_len):
    ours, theirs = make_mixers()
    theirs.load_state_dict(ours.state_dict())
    hidden_states = torch.randn(3, seq_len, 24)
    results = {}
    for mixer in (ours, theirs):
        inputs = hidden_states.clone().requires_grad_()
        output = mixer(inputs)
        output.square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in mixer.named_parameters()}
        results[mixer] = {"output": output, "input": inputs.grad, **gradients}
    torch.testing.assert_close(results[ours], results[theirs], rtol=1e-4, atol=1e-5)


def test_mixer_is_causal():
    mixer = make_mixers()[0]
    hidden_states = torch.randn(2, 9, 24)
    torch.testing.assert_close(mixer(hidden_states)[:, :6], mixer(hidden_states[:, :6]))


def test_mixer_in_bfloat16():
    mixer = make_mixers()[0]
    hidden_states = torch.randn(2, 9, 24)
    expected = mixer(hidden_states)
    result = mixer.to(torch.bfloat16)(hidden_states.to(torch.bfloat16))
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, rtol=0.05, atol=0.02)


def test_mixer_initialisation():
    mixer = BDAMMambaMixer(32, state_size=4)
    torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 5).expand(64, 4))
    assert (mixer.D == 1).all()
    time_step = torch.nn.functional.softplus(mixer.dt_proj.bias)
    assert time_step.min() >= 0.99e-3 and time_step.max() <= 1.01e-1
    assert time_step.log().std() > 1  # log-uniform over two decades: 1.33
    assert mixer.dt_proj.weight.abs().max() <= 2**-0.5


def test_mixer_is_built_on_the_meta_device():
    with torch.device("meta"):
        mixer = BDAMMambaMixer(32)
    mixer = mixer.to_empty(device="cpu")
    mixer.reset_parameters()
    assert mixer(torch.randn(2, 3, 32)).isfinite().all()
