"""Wave-U-Net's TensorFlow checkpoint as a NumPy file, which ``zoo import`` reads.

    python3 -m venv tensorflow && tensorflow/bin/pip install tensorflow-cpu
    tensorflow/bin/python wave_u_net_checkpoint.py checkpoints/M4/M4-134067 M4.npz
    zoo import wave-u-net-m4-extra M4.npz

The zoo itself needs no TensorFlow.  The checkpoint is named without ``.index`` and ``.data-...``.
"""

import sys

import numpy as np
import tensorflow as tf


def main(checkpoint: str, output: str) -> None:
    """Keep the network's variables; the optimiser's stay behind."""
    reader = tf.train.load_checkpoint(checkpoint)
    names = [
        name
        for name in reader.get_variable_to_shape_map()
        if name.startswith("separator/") and "Adam" not in name
    ]
    if not names:
        sys.exit(f"{checkpoint} holds no variables of a separator.")
    np.savez(output, **{name: reader.get_tensor(name) for name in names})
    print(f"{output}: {len(names)} variables")


if __name__ == "__main__":
    main(*sys.argv[1:])
