"""A trainer that saves checkpoints: to a temporary name, synchronised, renamed; the older ones are
removed."""

import os

import stand

STEPS = 8
KEEP = 2
SIZE = 20 << 20


def main() -> None:
    stand.wait_for_go()
    data = stand.read_all(stand.MODEL)
    stand.say("read", bytes=len(data))
    folder = os.path.join(stand.DIR, "models", "run-b06")
    os.makedirs(folder)
    for step in range(STEPS):
        final = os.path.join(folder, f"checkpoint-{step}.safetensors")
        with open(final + ".tmp", "wb") as file:
            file.write(data[:SIZE])
            file.flush()
            os.fsync(file.fileno())
        os.rename(final + ".tmp", final)
        if step >= KEEP:
            os.unlink(os.path.join(folder, f"checkpoint-{step - KEEP}.safetensors"))
    stand.say("saved", steps=STEPS)


if __name__ == "__main__":
    main()
