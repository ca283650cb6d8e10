# Copyright 2026 The BDAM authors.
# SPDX-License-Identifier: Apache-2.0
"""The Mamba layer in plain PyTorch, with its selective scan."""

import math

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import initialization as init
from transformers.integrations import use_kernel_forward_from_hub, use_kernelized_func
from transformers.utils import is_kernels_available


try:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn as mamba_ssm_scan
except ImportError as error:  # the CUDA kernels are optional
    mamba_ssm_scan, import_error = None, error

PLAIN = "plain PyTorch"


class BDAMSelectiveScan(torch.autograd.Function):
    """
    The selective scan of Mamba, fused over time: no `(batch_size, seq_len, channels, state_size)` tensor is built.

    The forward keeps one state and a copy of it every `checkpoint_interval` steps. The backward processes the chunks
    between two copies from the last to the first, recomputes the states of one chunk, then follows the adjoint
    recurrence through it. Products of decays are never formed, neither directly nor as sums of logarithms, so the scan
    is as stable as the recurrence itself. Call it through [`selective_scan`], which describes the arguments.

    Inside, states are `(batch_size, state_size, channels)`: the long dimension is the contiguous one. Matrix products
    write through `out=`, which autocast leaves alone.
    """

    checkpoint_interval = 8

    @staticmethod
    def forward(ctx, u, delta, A, B, C):
        batch_size, seq_len, channels = u.shape
        A_transposed = A.t().contiguous()
        state = u.new_zeros(batch_size, A.shape[1], channels)
        decay = torch.empty_like(state)
        y = u.new_empty(seq_len, batch_size, 1, channels)
        checkpoints = []
        for t in range(seq_len):
            if t % BDAMSelectiveScan.checkpoint_interval == 0 and any(ctx.needs_input_grad):
                checkpoints.append(state.clone())
            BDAMSelectiveScan._step(state, u[:, t], delta[:, t], A_transposed, B[:, t], out=state, out_decay=decay)
            torch.bmm(C[:, t, None, :], state, out=y[t])
        ctx.save_for_backward(u, delta, A_transposed, B, C, *checkpoints)
        return y.squeeze(2).transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y):
        u, delta, A_transposed, B, C, *checkpoints = ctx.saved_tensors
        grad_y = grad_y.contiguous()
        batch_size, seq_len, channels = u.shape
        state_size, interval = B.shape[-1], BDAMSelectiveScan.checkpoint_interval

        grad_input = u.new_empty(seq_len, batch_size, 1, channels)  # with respect to delta_t u_t
        grad_delta = u.new_empty(seq_len, batch_size, channels)
        grad_B = u.new_empty(seq_len, batch_size, state_size, 1)
        grad_C = torch.empty_like(grad_B)
        grad_A = u.new_zeros(batch_size, state_size, channels)  # summed over the batch at the end
        grad_state = torch.zeros_like(grad_A)
        states = u.new_empty(interval + 1, *grad_state.shape)
        decays = u.new_empty(interval, *grad_state.shape)

        for start in reversed(range(0, seq_len, interval)):
            chunk = range(start, min(start + interval, seq_len))
            states[0] = checkpoints.pop()
            for i, t in enumerate(chunk):
                BDAMSelectiveScan._step(
                    states[i], u[:, t], delta[:, t], A_transposed, B[:, t], out=states[i + 1], out_decay=decays[i]
                )
            for i, t in reversed(list(enumerate(chunk))):
                delta_t, grad_y_t = delta[:, t], grad_y[:, t]
                # y_t = C_t h_t
                torch.bmm(states[i + 1], grad_y_t.unsqueeze(2), out=grad_C[t])
                grad_state.addcmul_(grad_y_t.unsqueeze(1), C[:, t].unsqueeze(2))
                # h_t = ... + (delta_t u_t) B_t
                torch.bmm(B[:, t].unsqueeze(1), grad_state, out=grad_input[t])
                torch.bmm(grad_state, (delta_t * u[:, t]).unsqueeze(2), out=grad_B[t])
                # h_t = exp(delta_t A) h_{t-1} + ...: grad_state becomes that of h_{t-1}, h_t is overwritten
                grad_state.mul_(decays[i])
                grad_exponent = torch.mul(grad_state, states[i], out=states[i + 1])
                grad_A.addcmul_(grad_exponent, delta_t.unsqueeze(1))
                torch.sum(grad_exponent.mul_(A_transposed), dim=1, out=grad_delta[t])

        grad_input = grad_input.squeeze(2).transpose(0, 1)
        grad_delta = grad_delta.transpose(0, 1).addcmul_(grad_input, u)
        grad_B, grad_C = (grad.squeeze(3).transpose(0, 1) for grad in (grad_B, grad_C))
        return grad_input * delta, grad_delta, grad_A.sum(0).t(), grad_B, grad_C

    @staticmethod
    def _step(state, u_t, delta_t, A_transposed, B_t, out, out_decay):
        """Write `exp(delta_t A)` into `out_decay` and the next state into `out`, which may be `state` itself."""
        torch.mul(delta_t.unsqueeze(1), A_transposed, out=out_decay).exp_()
        torch.mul(state, out_decay, out=out).addcmul_((delta_t * u_t).unsqueeze(1), B_t.unsqueeze(2))


def selective_scan(
    u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor
) -> torch.Tensor:
    """
    The selective state space recurrence of Mamba ([Gu & Dao, 2023](https://arxiv.org/abs/2312.00752), Equation 2 and
    Algorithm 2), from an empty state:

        h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t
        y_t = C_t h_t

    The recurrence runs in float32 (float64 for float64 inputs), whatever the dtype of the inputs. [`choose_scan`] says
    by which code; float64 is always that of this file.

    Args:
        u (`torch.Tensor` of shape `(batch_size, seq_len, channels)`): Input sequence.
        delta (`torch.Tensor` of shape `(batch_size, seq_len, channels)`): Step sizes, positive (after softplus).
        A (`torch.Tensor` of shape `(channels, state_size)`): State matrix, diagonal per channel, negative.
        B (`torch.Tensor` of shape `(batch_size, seq_len, state_size)`): Input projection of every step.
        C (`torch.Tensor` of shape `(batch_size, seq_len, state_size)`): Output projection of every step.

    Returns:
        `torch.Tensor` of shape `(batch_size, seq_len, channels)`, in the dtype of `u`.
    """
    input_dtype = u.dtype
    scan_dtype = torch.promote_types(input_dtype, torch.float32)
    u, delta, A, B, C = (tensor.to(scan_dtype) for tensor in (u, delta, A, B, C))
    if u.shape[1] == 1:
        y = _selective_scan_single_step(u, delta, A, B, C)
    elif scan_dtype == torch.float64 or choose_scan(u.device.type)[0] == PLAIN:
        u, delta, B, C = (tensor.contiguous() for tensor in (u, delta, B, C))
        y = BDAMSelectiveScan.apply(u, delta, A, B, C)
    else:
        u, delta, B, C = (tensor.transpose(1, 2) for tensor in (u, delta, B, C))
        y = selective_scan_fn(u, delta, A, B, C).transpose(1, 2)
    return y.to(input_dtype)


@use_kernel_forward_from_hub("selective_scan_fn")
def selective_scan_fn(
    u,
    delta,
    A,
    B,
    C,
    D=None,
    z=None,
    delta_bias=None,
    delta_softplus=False,
    return_last_state=False,
    use_mambapy=False,
    use_associative_scan=False,
    **kwargs,
):
    """
    The scan of `mamba_ssm`, over `(batch_size, channels, seq_len)`. After `from_pretrained(..., use_kernels=True)` it
    is that of the `kernels` package, for all models of the process. `kernels` wants exactly these parameters; only the
    first five are used.
    """
    return mamba_ssm_scan(u, delta, A, B, C)


def choose_scan(device_type: str) -> tuple[str, str]:
    """
    The code that scans float32 tensors of a device, `"kernels"`, `"mamba_ssm"` or `PLAIN`, and why. Tensors of the CPU
    never reach the first two, which are made for GPUs.
    """
    if device_type == "cpu":
        return PLAIN, "on the CPU"
    if isinstance(selective_scan_fn, nn.Module) and _is_replaced(selective_scan_fn):
        return "kernels", "a model was loaded with use_kernels=True"
    if device_type != "cuda":
        return PLAIN, f"mamba_ssm has no kernel for {device_type}"
    return ("mamba_ssm", "installed") if mamba_ssm_scan is not None else (PLAIN, str(import_error))


def describe_scan() -> str:
    """Which scan [`selective_scan`] runs on this machine, and why."""
    device_type = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
    name, reason = choose_scan(device_type)
    kernels = "can take its place" if is_kernels_available() else "not installed, or not as transformers wants it"
    return f"{name} ({reason}; kernels: {kernels})"


def _is_replaced(layer: nn.Module) -> bool:
    """Whether `kernels` gave the layer the `forward` of another class than its own."""
    return getattr(layer.forward, "__func__", None) is not type(layer).forward


def _selective_scan_single_step(u, delta, A, B, C):
    """With one step there is no state to decay. `A` keeps a zero gradient, as DistributedDataParallel expects one."""
    return (B * C).sum(-1, keepdim=True) * delta * u + 0.0 * A.sum(-1)


@use_kernelized_func(selective_scan_fn)
class BDAMMambaMixer(nn.Module):
    """
    The Mamba block ([Gu & Dao, 2023](https://arxiv.org/abs/2312.00752), Section 3.4): gated, with a causal depthwise
    convolution before the selective scan. Parameters have the names and shapes of `mamba_ssm.Mamba` and of
    `transformers`' `MambaMixer`, so weights go both ways.

    Every step depends on itself and earlier steps only, so padding at the end of a sequence needs no mask.

    Args:
        hidden_size (`int`): Width of the input and the output.
        state_size (`int`, *optional*, defaults to 16): Size of the state of every channel.
        conv_kernel (`int`, *optional*, defaults to 4): Steps that the convolution sees.
        expand (`int`, *optional*, defaults to 2): Channels inside the block, as a multiple of `hidden_size`.
    """

    def __init__(self, hidden_size: int, state_size: int = 16, conv_kernel: int = 4, expand: int = 2):
        super().__init__()
        self.state_size = state_size
        self.time_step_rank = math.ceil(hidden_size / 16)
        channels = expand * hidden_size

        self.in_proj = nn.Linear(hidden_size, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, conv_kernel, groups=channels, padding=conv_kernel - 1)
        self.x_proj = nn.Linear(channels, self.time_step_rank + 2 * state_size, bias=False)
        self.dt_proj = nn.Linear(self.time_step_rank, channels)
        self.A_log = nn.Parameter(torch.empty(channels, state_size))
        self.D = nn.Parameter(torch.empty(channels))
        self.out_proj = nn.Linear(channels, hidden_size, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, min_time_step: float = 1e-3, max_time_step: float = 1e-1):
        """
        Initialize as `mamba_ssm` does: `A = -(1, ..., state_size)` (S4D-Real), `D = 1`, step sizes log-uniform between
        `min_time_step` and `max_time_step`, PyTorch's defaults for everything else.
        """
        for module in (self.in_proj, self.conv1d, self.x_proj, self.out_proj):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        conv_bound = self.conv1d.kernel_size[0] ** -0.5
        init.uniform_(self.conv1d.bias, -conv_bound, conv_bound)

        steps = torch.arange(1, self.state_size + 1, dtype=torch.float32, device=self.A_log.device)
        init.copy_(self.A_log, steps.log().expand_as(self.A_log))
        init.ones_(self.D)

        weight_bound = self.time_step_rank**-0.5
        init.uniform_(self.dt_proj.weight, -weight_bound, weight_bound)
        log_time_step = torch.empty_like(self.dt_proj.bias).uniform_(math.log(min_time_step), math.log(max_time_step))
        time_step = log_time_step.exp()
        init.copy_(self.dt_proj.bias, time_step + torch.log(-torch.expm1(-time_step)))  # inverse of softplus

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Maps `hidden_states` of shape `(batch_size, seq_len, hidden_size)` to the same shape."""
        hidden_states, gate = self.in_proj(hidden_states).chunk(2, dim=-1)
        hidden_states = nn.functional.silu(self._causal_conv(hidden_states))

        time_step, B, C = self.x_proj(hidden_states).split(
            [self.time_step_rank, self.state_size, self.state_size], dim=-1
        )
        delta = nn.functional.softplus(self.dt_proj(time_step))
        A = -torch.exp(self.A_log)
        scanned = selective_scan(hidden_states, delta, A, B, C)
        return self.out_proj((scanned + self.D * hidden_states) * nn.functional.silu(gate))

    def _causal_conv(self, hidden_states: torch.Tensor) -> torch.Tensor:
        seq_len = hidden_states.shape[1]
        if seq_len == 1:  # the other taps see only padding
            return hidden_states * self.conv1d.weight[:, 0, -1] + self.conv1d.bias
        return self.conv1d(hidden_states.transpose(1, 2))[..., :seq_len].transpose(1, 2)


__all__ = ["BDAMMambaMixer", "BDAMSelectiveScan", "selective_scan"]
