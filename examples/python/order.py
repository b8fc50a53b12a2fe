"""Publishes an order to callmask, waits for its numbers, and completes it.

    orders.assigned  -> callmask -> vn.assigned   show each party the other's number
    orders.completed -> callmask -> vn.released   forget them

NATS_URL says where NATS is (nats://127.0.0.1:4222), POOL and ORDER_ID what to order.
"""

import os
import time

from jetstream import JetStream

js = JetStream(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
order_id = os.environ.get("ORDER_ID", f"python-{time.time_ns()}")

# A durable consumer goes on where it stopped: nothing is missed while the app is down.
events = js.consumer("VN", "example-python", "vn.>")

# The message id makes a repeat of a publish harmless.
order = {
    "order_id": order_id,
    "pool": os.environ.get("POOL", "demo"),
    "parties": [
        {"role": "customer", "number": "+12025550123"},
        {"role": "agent", "number": "+12025550145"},
    ],
}
js.publish("orders.assigned", order, f"assigned:{order_id}")

for event, acknowledge in events:
    if event["order_id"] == order_id:
        if "parties" in event:  # vn.assigned
            for party in event["parties"]:
                print(f"to reach the {party['role']} the others dial {party['vn']}")
            js.publish("orders.completed", {"order_id": order_id}, f"completed:{order_id}")
        elif event["reason"] in ("completed", "cancelled", "expired"):  # vn.released
            print("released:", event["reason"])
            acknowledge()
            break
        else:  # vn.failed
            raise SystemExit(f"vn.failed: {event['reason']}")
    # Delivery is at least once: acknowledge when the work is done, and bear a repeat.
    acknowledge()
