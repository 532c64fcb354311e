"""Adversarial training: the losses of a GAN, and the denoising diffusion GAN.

    adversarial.discriminator_loss(real, fake)      losses of a GAN
    adversarial.denoising.pair(key, x, ...)         denoising diffusion GAN of Xiao et al. 2022

All losses are in nats, with one value per example.
"""

from jaxscore.adversarial.losses import discriminator_loss as discriminator_loss
from jaxscore.adversarial.losses import generator_loss as generator_loss
from jaxscore.adversarial.losses import gradient_penalty as gradient_penalty
from jaxscore.adversarial.losses import lazy as lazy
