"""From someone's table or images to `dataset/`, and back: `lanfit prepare` and `lanfit predict`."""
