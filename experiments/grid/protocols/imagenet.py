"""ImageNet: the paper's own scale, and where each setting is from."""

from experiments.grid.arms import CONTROLS, PAPER, Study, synchronized
from experiments.grid.protocols.protocol import Protocol

IMAGENET = Protocol(
    name="imagenet",
    title="ImageNet, the paper's scale",
    source="imagenet2012",
    classes=1000,
    training_images=1_281_167,
    image_size=299,
    network="inception_v3",
    width=0,
    steps=130_000,
    workers=50,
    labels_per_minibatch=16,
    images_per_label=2,
    test_labels_per_minibatch=25,
    learning_rate=0.045,
    learning_rate_decay=0.0066,
    evaluate_every=1000,
    evaluation_images=50_000,
    studies=(
        Study("paper", "the paper's arms, and their controls", PAPER + CONTROLS, (0,)),
        Study("synchronized", "statistics over all workers", (synchronized(),), (0,)),
    ),
    averaging=0.9999,
    rms_epsilon=1.0,
    flip=True,
    notes=(
        "The paper gives neither learning rate nor decay, RMSProp's settings, averaging, epsilon, "
        "augmentation or weight decay: `list` says of each value where it is from.",
        "Images are cut to a square about their centre and flipped at random: nothing else. There "
        "is no weight decay, dropout, label smoothing, gradient clipping or auxiliary classifier.",
    ),
)

SOURCES = {
    IMAGENET.name: {
        "source": "paper: ImageNet, section 4",
        "image_size": "chosen: Inception-v3's size (Szegedy et al. 2016)",
        "network": "paper: Inception-v3 (layers as in keras.applications), section 4",
        "width": "nothing to this network",
        "modules": "nothing to this network",
        "stem_stride": "nothing to this network",
        "steps": "paper: where bn-32 has its reported accuracy, section 4.1",
        "workers": "paper: section 4",
        "labels_per_minibatch": "paper: section 4.3",
        "images_per_label": "paper: section 4.3",
        "test_labels_per_minibatch": "paper: section 4.3",
        "learning_rate": "chosen: Szegedy et al. 2016, section 8, there with 50 replicas of 32 too",
        "learning_rate_decay": "chosen: 0.94 every 2 epochs (section 8 there), over 162 epochs",
        "evaluate_every": "chosen: 130 points of a curve",
        "evaluation_images": "chosen: all validation images, and as many training images",
        "rms_rho": "chosen: Szegedy et al. 2016, section 8",
        "rms_momentum": "chosen: TensorFlow's published training of Inception-v3",
        "rms_epsilon": "chosen: Szegedy et al. 2016, section 8",
        "alpha": "paper: section 4",
        "epsilon": "chosen: TensorFlow's published Inception-v3",
        "averaging": "chosen: TensorFlow's published training of Inception-v3",
        "flip": "chosen: usual for ImageNet",
        "shift": "chosen: none",
        "padding": "nothing without shifts",
        "noise": "chosen: none",
    },
}
"""Protocol -> setting -> where its value is from: the paper, or a choice, and after what."""
