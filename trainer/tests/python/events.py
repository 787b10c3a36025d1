"""Prints the scalars of a run as TensorBoard's own reader sees them: tag, step, value.

    events.py RUN
"""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1])
events.Reload()
for tag in sorted(events.Tags()["scalars"]):
    for scalar in events.Scalars(tag):
        print(tag, scalar.step, f"{scalar.value:.6f}")
