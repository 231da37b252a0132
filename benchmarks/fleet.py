"""1,000 gateways on one NATS: publish, durable, deployed and acked by all, against the raw broker.

What `propagation` measures, and how, with a fleet in four processes: the ratio to raw NATS in
pairs, the publisher's memory for each gateway, and what a round costs publisher and broker.
"""

import propagation

if __name__ == "__main__":
    fleet = [propagation.Variant(1_000), propagation.Variant(1_000, signed=True)]
    propagation.main("fleet", fleet, rounds=15, processes=4)
