"""Random weights that a comparison can use: activations of a healthy size, and answers that differ from photo to photo.

Networks start with weights for training. In evaluation such a network gives about one answer to every photo: batch norms have no
statistics, residual branches are scaled to nothing, heads are zeros. A wrong crop or a wrong table would change nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from entry import Photos

# How far the scores before softmax spread, over classes and photos: the best class of 1000 gets 0.1 to 0.9.
LOGIT_SPREAD = 3.0


def fit_batch_norms(network: nn.Module, run: Callable[[], object], bias: float = 2.0) -> None:
    """Sets the statistics of all batch norms to those of one forward pass, which `run` makes, and their bias.

    Random networks with a bias of 0 are chaotic: a pixel that differs by 1/255 changes their answer as much as another photo.
    With a larger bias most values pass the activation behind the batch norm nearly unchanged, and small causes have small effects.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # an average over all passes, and there is one
        norm.train()
    with torch.no_grad():
        for norm in norms:
            norm.bias.fill_(bias)
        run()
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()


def enlarge(network: nn.Module, part_of_name: str, std: float) -> int:
    """Draws all parameters with this part in their name anew, with this deviation. Returns their number."""
    found = [tensor for name, tensor in network.named_parameters() if part_of_name in name]
    with torch.no_grad():
        for tensor in found:
            tensor.normal_(0.0, std)
    if not found:
        raise LookupError(f"no parameter with {part_of_name} in its name")
    return len(found)


def spread_head(network: nn.Module, head: nn.Linear, photos: Photos) -> None:
    """Draws the weights of the last layer, so that each photo has classes of its own.

    The bias takes away what all photos have in common. In a random network this is the largest part.
    """
    with torch.no_grad(), inputs_of(head) as seen:
        network(photos)
        features = torch.cat(seen)
        head.weight.normal_()
        common = features.mean(0)
        spread = ((features - common) @ head.weight.T).std()
        head.weight.mul_(LOGIT_SPREAD / spread)
        head.bias.copy_(-head.weight @ common)


def spread_outputs(layer: nn.Module, run: Callable[[], object], mean: float, std: float) -> None:
    """Scales a layer so that each of its channels has this mean and this deviation in the pass that `run` makes.

    `layer` is a convolution or a linear layer with a bias. Its channels are dimension 1 of its output.
    """
    if layer.bias is None:
        raise TypeError("the layer has no bias")
    with torch.no_grad(), outputs_of(layer) as seen:
        run()
        channels = torch.cat([output.transpose(0, 1).flatten(1) for output in seen], 1)
        scale = std / channels.std(1).clamp_min(1e-9)
        layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.copy_(mean + (layer.bias - channels.mean(1)) * scale)


@contextmanager
def inputs_of(layer: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects the inputs of a layer, while the block runs."""
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def outputs_of(layer: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects the outputs of a layer, while the block runs."""
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    try:
        yield seen
    finally:
        hook.remove()
