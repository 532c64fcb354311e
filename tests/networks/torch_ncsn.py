"""NCSN and NCSNv2 for small images as PyTorch modules, whose state dicts have the published names."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")  # here too: the doctests look into every file
nn, functional = torch.nn, torch.nn.functional

STAGES = ((1, 1), (2, 1), (2, 2), (2, 4))


class Norm(nn.Module):
    def __init__(self, width, levels):
        super().__init__()
        self.levels = levels
        if levels is None:
            self.alpha, self.gamma = (nn.Parameter(1 + 0.2 * torch.randn(width)) for _ in range(2))
            self.beta = nn.Parameter(0.2 * torch.randn(width))
        else:
            self.embed = nn.Embedding(levels, 3 * width)
            self.embed.weight.data.normal_(1.0, 0.2)

    def forward(self, x, level):
        if self.levels is None:
            gamma, alpha, beta = (p[None] for p in (self.gamma, self.alpha, self.beta))
        else:
            gamma, alpha, beta = self.embed(level).chunk(3, dim=1)
        gamma, alpha, beta = (p[:, :, None, None] for p in (gamma, alpha, beta))
        means = x.mean(dim=(2, 3), keepdim=True)
        variance = means.var(dim=1, keepdim=True)  # PyTorch's default is the unbiased one
        brightness = (means - means.mean(dim=1, keepdim=True)) / torch.sqrt(variance + 1e-5)
        return gamma * (functional.instance_norm(x) + alpha * brightness) + beta


class PooledConv(nn.Module):
    def __init__(self, a, b, size):
        super().__init__()
        self.conv = nn.Conv2d(a, b, size, padding=size // 2)

    def forward(self, x):
        return functional.avg_pool2d(self.conv(x), 2)


class Residual(nn.Module):
    def __init__(self, a, b, dilation, resample, levels):
        super().__init__()
        dilated = {"padding": dilation, "dilation": dilation}
        self.normalize1, self.normalize2 = Norm(a, levels), Norm(a, levels)
        self.conv1 = nn.Conv2d(a, a, 3, **dilated)
        self.shortcut = nn.Identity()
        if resample and dilation == 1:
            self.conv2, self.shortcut = PooledConv(a, b, 3), PooledConv(a, b, 1)
        else:
            self.conv2 = nn.Conv2d(a, b, 3, **dilated)
            self.shortcut = nn.Conv2d(a, b, 3, **dilated) if resample else nn.Identity()

    def forward(self, x, level):
        h = self.conv1(functional.elu(self.normalize1(x, level)))
        return self.shortcut(x) + self.conv2(functional.elu(self.normalize2(h, level)))


class Units(nn.Module):
    def __init__(self, width, blocks, levels):
        super().__init__()
        self.blocks = blocks
        for name in self.names():
            self.add_module(f"{name}_conv", nn.Conv2d(width, width, 3, padding=1, bias=False))
            if levels is not None:
                self.add_module(f"{name}_norm", Norm(width, levels))

    def names(self):
        return [f"{i + 1}_{j + 1}" for i in range(self.blocks) for j in range(2)]

    def forward(self, x, level):
        for number, name in enumerate(self.names()):
            h = x if number % 2 == 0 else h
            h = getattr(self, f"{name}_norm")(h, level) if hasattr(self, f"{name}_norm") else h
            h = getattr(self, f"{name}_conv")(functional.elu(h))
            x = x + h if number % 2 else x
        return x


class ConvsAndNorms(nn.Module):
    """`msf` and `crp` are both two convolutions, with norms in NCSN."""

    def __init__(self, a, b, bias, levels):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1, bias=bias) for _ in range(2)])
        self.norms = nn.ModuleList([Norm(a, levels) for _ in range(2)]) if levels is not None else None

    def norm(self, i, x, level):
        return x if self.norms is None else self.norms[i](x, level)


class Refine(nn.Module):
    def __init__(self, a, b, inputs, blocks, levels):
        super().__init__()
        self.adapt_convs = nn.ModuleList([Units(a, 2, levels) for _ in range(inputs)])
        if inputs == 2:
            self.msf = ConvsAndNorms(a, b, True, levels)
        self.crp = ConvsAndNorms(b, b, False, levels)
        self.output_convs = Units(b, blocks, levels)

    def forward(self, xs, level):
        xs = [adapt(x, level) for adapt, x in zip(self.adapt_convs, xs, strict=True)]
        sides = xs[0].shape[2:]
        if len(xs) == 2:
            xs = [self.msf.convs[i](self.msf.norm(i, x, level)) for i, x in enumerate(xs)]
            xs = [functional.interpolate(x, sides, mode="bilinear", align_corners=True) for x in xs]
        h = link = functional.elu(sum(xs))
        for i in range(2):
            link = self.crp.norm(i, link, level)
            if self.crp.norms is None:
                link = functional.max_pool2d(link, 5, stride=1, padding=2)
            else:
                link = functional.avg_pool2d(link, 5, stride=1, padding=2)
            link = self.crp.convs[i](link)
            h = h + link
        return self.output_convs(h, level)


class RefineNet(nn.Module):
    def __init__(self, channels, image_channels, levels):
        super().__init__()
        self.begin_conv = nn.Conv2d(image_channels, channels, 3, padding=1)
        self.normalizer = Norm(channels, levels)
        self.end_conv = nn.Conv2d(channels, image_channels, 3, padding=1)
        widths = [channels * multiple for multiple, _ in STAGES]
        for i, ((_, dilation), b) in enumerate(zip(STAGES, widths, strict=True)):
            a = widths[max(i - 1, 0)]
            blocks = [Residual(a, b, dilation, i > 0, levels), Residual(b, b, dilation, False, levels)]
            self.add_module(f"res{i + 1}", nn.ModuleList(blocks))
        for i in range(4):
            a = widths[3 - i]
            b = [widths[2], widths[1], widths[0], widths[0]][i]
            refine = Refine(a, b, 1 if i == 0 else 2, 3 if i == 3 else 1, levels)
            self.add_module(f"refine{i + 1}", refine)

    def forward(self, x, level):
        h, outputs = self.begin_conv(2 * x - 1), []
        for i in range(4):
            for block in getattr(self, f"res{i + 1}"):
                h = block(h, level)
            outputs.append(h)
        h = self.refine1([h], level)
        for i in (2, 3, 4):
            h = getattr(self, f"refine{i}")([outputs[4 - i], h], level)
        return self.end_conv(functional.elu(self.normalizer(h, level)))


def state_and_output(model, x, level):
    """The state dict as arrays, and the output for images [b, h, w, c], itself [b, h, w, c]."""
    images = torch.from_numpy(np.moveaxis(x, 3, 1).copy())
    with torch.no_grad():
        out = model(images, torch.from_numpy(level))
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    return state, np.moveaxis(out.numpy(), 1, 3)
