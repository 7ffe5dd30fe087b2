"""EfficientNet-Lite0 for inference: convolutions with their batch norms folded in, and nothing else.

TorchScript compiles this source, so it stays within what the compiler knows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-3  # of every batch norm of the original


class ConvRelu6(nn.Module):
    """A convolution with TensorFlow's SAME padding, then relu6 where `act` says so.

    With stride 2 on even sides SAME pads one row less before than after, which `conv2d` cannot. So the convolution
    pads one row or column more than that on both sides, to keep the phase, and the surplus first row and column
    are dropped: the slice costs nothing, where an operation that pads copies the largest tensors of the network
    (one core, batches of 8, fp32: 15.3 ms an image against 16.7).
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, act: bool):
        super().__init__()
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + EPSILON)
        bias = norm.bias.double() - norm.running_mean.double() * scale
        weight = conv.weight.double() * scale[:, None, None, None]
        self.weight = nn.Parameter(weight.float().detach())
        self.bias = nn.Parameter(bias.float().detach())
        self.stride: int = conv.stride[0]
        self.groups: int = conv.groups
        size: int = conv.kernel_size[0]
        # SAME before the image: (size - 1) / 2, with stride 2 (size - 2) / 2 and two more, which is one output row
        self.pad: int = (size - 1) // 2 if self.stride == 1 else (size - 2) // 2 + 2
        self.drop: bool = self.stride == 2
        self.act: bool = act

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, self.bias, [self.stride], [self.pad], [1], self.groups)
        if self.drop:
            x = x[:, :, 1:, 1:]
            return F.relu6(x)  # out of place: writes a dense tensor again
        if self.act:
            return F.relu6(x, inplace=True)
        return x


class Block(nn.Module):
    """Inverted bottleneck: expand 1×1 (absent in the first block), depthwise, project 1×1."""

    def __init__(self, block: nn.Module):
        super().__init__()
        args = block._block_args
        expand = [ConvRelu6(block._expand_conv, block._bn0, True)] if args.expand_ratio != 1 else []
        depthwise = ConvRelu6(block._depthwise_conv, block._bn1, True)
        project = ConvRelu6(block._project_conv, block._bn2, False)
        self.layers = nn.Sequential(*expand, depthwise, project)
        stride = args.stride if isinstance(args.stride, int) else args.stride[0]
        self.skip: bool = bool(args.id_skip) and stride == 1 and args.input_filters == args.output_filters

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        if self.skip:
            return y.add_(x)
        return y


class EfficientNetLite0(nn.Module):
    """`forward`: float NCHW, normalized → 1000 logits. `embed`: the same → 1280 pooled features."""

    def __init__(self, original: nn.Module):
        super().__init__()
        self.stem = ConvRelu6(original._conv_stem, original._bn0, True)
        self.blocks = nn.Sequential(*[Block(b) for b in original._blocks])
        self.head = ConvRelu6(original._conv_head, original._bn1, True)
        self.weight = nn.Parameter(original._fc.weight.detach().clone())
        self.bias = nn.Parameter(original._fc.bias.detach().clone())

    @torch.jit.export
    def embed(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x))).mean([2, 3])

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.embed(x), self.weight, self.bias)
