"""NCSN and NCSNv2 once more, in NumPy, on state dicts with the names of the published PyTorch code.

Written from the papers and from the list of names; arrays are [b, c, h, w] as in PyTorch.
"""

import numpy as np
from scipy import ndimage

SHALLOW = (("1", 1, 1), ("2", 2, 1), ("3", 2, 2), ("4", 2, 4))
DEEPER = (("1", 1, 1), ("2", 2, 1), ("3", 2, 1), ("4", 4, 2), ("5", 4, 4))
DEEPEST = (("1", 1, 1), ("2", 2, 1), ("3", 2, 1), ("31", 2, 1), ("4", 4, 2), ("5", 4, 4))
REFINE = {n: tuple(str(n - i) for i in range(n)) for n in range(1, 6)}
REFINE[6] = ("5", "4", "3", "31", "2", "1")


def entries(channels, image_channels, stages=SHALLOW, levels=None):
    """Name -> shape of the whole state dict."""
    found = {}

    def conv(name, a, b, size=3, bias=True):
        found[f"{name}.weight"] = (b, a, size, size)
        if bias:
            found[f"{name}.bias"] = (b,)

    def norm(name, a):
        if levels is None:
            found.update({f"{name}.{part}": (a,) for part in ("alpha", "gamma", "beta")})
        else:
            found[f"{name}.embed.weight"] = (levels, 3 * a)

    def units(name, a, blocks):
        for i in range(1, blocks + 1):
            for j in (1, 2):
                conv(f"{name}.{i}_{j}_conv", a, a, bias=False)
                if levels is not None:
                    norm(f"{name}.{i}_{j}_norm", a)

    widths = [multiple * channels for _, multiple, _ in stages]
    conv("begin_conv", image_channels, channels)
    norm("normalizer", channels)
    conv("end_conv", channels, image_channels)
    for i, ((stage, _, dilation), width) in enumerate(zip(stages, widths, strict=True)):
        a = widths[max(i - 1, 0)]
        pooled = ".conv" if i and dilation == 1 else ""
        first, second = f"res{stage}.0", f"res{stage}.1"
        norm(f"{first}.normalize1", a)
        norm(f"{first}.normalize2", a)
        conv(f"{first}.conv1", a, a)
        conv(f"{first}.conv2{pooled}", a, width)
        if i:
            conv(f"{first}.shortcut{pooled}", a, width, size=1 if pooled else 3)
        for j in (1, 2):
            norm(f"{second}.normalize{j}", width)
            conv(f"{second}.conv{j}", width, width)
    outs = [channels, *widths][: len(widths) - 1] + widths[-1:]
    for i, (width, out) in enumerate(zip(widths, outs, strict=True)):
        name, from_below = f"refine{REFINE[len(stages)][i]}", outs[i + 1 : i + 2]
        for j, a in enumerate([width, *from_below]):
            units(f"{name}.adapt_convs.{j}", a, 2)
            if from_below:
                conv(f"{name}.msf.convs.{j}", a, out)
                if levels is not None:
                    norm(f"{name}.msf.norms.{j}", a)
        for j in (0, 1):
            conv(f"{name}.crp.convs.{j}", out, out, bias=False)
            if levels is not None:
                norm(f"{name}.crp.norms.{j}", out)
        units(f"{name}.output_convs", out, 3 if i == 0 else 1)
    return found


def random_state(seed, shapes):
    """Values as after some training: kernels of unit gain, gamma and alpha near 1, no zeros."""
    rng = np.random.default_rng(seed)

    def fill(name, shape):
        values = rng.standard_normal(shape)
        if len(shape) == 4:
            return values / np.sqrt(np.prod(shape[1:]))
        scales = ("gamma", "alpha")
        return 0.2 * values + (name.endswith(scales) or name.endswith("embed.weight"))

    return {name: fill(name, shape).astype(np.float32) for name, shape in shapes.items()}


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def conv(state, name, x, dilation=1):
    weight = state[f"{name}.weight"].astype(float)
    size = weight.shape[2]
    edge = dilation * (size // 2)
    padded = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    height, width = x.shape[2:]
    out = np.zeros((x.shape[0], weight.shape[0], height, width))
    for i in range(size):
        for j in range(size):
            top, left = i * dilation, j * dilation
            window = padded[:, :, top : top + height, left : left + width]
            out += np.einsum("oc,bchw->bohw", weight[:, :, i, j], window)
    return out + state[f"{name}.bias"][:, None, None] if f"{name}.bias" in state else out


def norm(state, name, x, level):
    if f"{name}.embed.weight" in state:
        gamma, alpha, beta = np.split(state[f"{name}.embed.weight"][level].astype(float), 3, axis=1)
    else:
        gamma, alpha, beta = (
            state[f"{name}.{part}"].astype(float)[None] for part in ("gamma", "alpha", "beta")
        )
    means = x.mean(axis=(2, 3))
    plain = (x - means[:, :, None, None]) / np.sqrt(x.var(axis=(2, 3)) + 1e-5)[:, :, None, None]
    bessel = np.stack([np.cov(row) for row in means])  # the unbiased variance, 1 / (c - 1)
    brightness = (means - means.mean(axis=1)[:, None]) / np.sqrt(bessel + 1e-5)[:, None]
    inner = plain + (alpha * brightness)[:, :, None, None]
    return gamma[:, :, None, None] * inner + beta[:, :, None, None]


def halve(x):
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def residual(state, name, x, level, dilation, resample):
    h = conv(state, f"{name}.conv1", elu(norm(state, f"{name}.normalize1", x, level)), dilation)
    h = elu(norm(state, f"{name}.normalize2", h, level))
    if resample and dilation == 1:
        return halve(conv(state, f"{name}.shortcut.conv", x)) + halve(conv(state, f"{name}.conv2.conv", h))
    h = conv(state, f"{name}.conv2", h, dilation)
    return h + (conv(state, f"{name}.shortcut", x, dilation) if resample else x)


def max_pool(x):
    return ndimage.maximum_filter(x, (1, 1, 5, 5), mode="constant", cval=-np.inf)


def average_pool(x):
    return ndimage.uniform_filter(x, (1, 1, 5, 5), mode="constant", cval=0.0)


def interpolate(x, sides):
    for axis, side in zip((2, 3), sides, strict=True):
        old = x.shape[axis]
        at = np.linspace(0, old - 1, side)
        x = np.apply_along_axis(lambda line, at=at, old=old: np.interp(at, np.arange(old), line), axis, x)
    return x


def units(state, name, x, level, blocks):
    for i in range(1, blocks + 1):
        h = x
        for j in (1, 2):
            h = norm(state, f"{name}.{i}_{j}_norm", h, level) if level is not None else h
            h = conv(state, f"{name}.{i}_{j}_conv", elu(h))
        x = x + h
    return x


def fuse(state, name, xs, level):
    total = 0.0
    for i, x in enumerate(xs):
        x = norm(state, f"{name}.norms.{i}", x, level) if level is not None else x
        total = total + interpolate(conv(state, f"{name}.convs.{i}", x), xs[0].shape[2:])
    return total


def chain(state, name, x, level):
    x = elu(x)
    path = x
    for i in (0, 1):
        if level is None:
            path = max_pool(path)
        else:
            path = average_pool(norm(state, f"{name}.norms.{i}", path, level))
        path = conv(state, f"{name}.convs.{i}", path)
        x = x + path
    return x


def refine(state, name, xs, level, blocks):
    xs = [units(state, f"{name}.adapt_convs.{i}", x, level, 2) for i, x in enumerate(xs)]
    h = xs[0] if len(xs) == 1 else fuse(state, f"{name}.msf", xs, level)
    return units(state, f"{name}.output_convs", chain(state, f"{name}.crp", h, level), level, blocks)


def network(state, x, level=None, stages=SHALLOW):
    """x[b, c, h, w] in 0..1, level[b] integers for NCSN and None for NCSNv2 (not divided by sigma)."""
    h = conv(state, "begin_conv", 2 * x.astype(float) - 1)
    outputs = []
    for i, (stage, _, dilation) in enumerate(stages):
        h = residual(state, f"res{stage}.0", h, level, dilation, resample=i > 0)
        h = residual(state, f"res{stage}.1", h, level, dilation, resample=False)
        outputs.append(h)
    for i in reversed(range(len(stages))):
        xs = outputs[-1:] if i == len(stages) - 1 else [outputs[i], h]
        h = refine(state, f"refine{REFINE[len(stages)][i]}", xs, level, 3 if i == 0 else 1)
    return conv(state, "end_conv", elu(norm(state, "normalizer", h, level)))
