// Publishes an order to callmask, waits for its numbers, and completes it.
//
//   orders.assigned  -> callmask -> vn.assigned   show each party the other's number
//   orders.completed -> callmask -> vn.released   forget them
//
// NATS_URL says where NATS is (nats://127.0.0.1:4222), POOL and ORDER_ID what to order.
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222" });
const js = jetstream(nc);
const id = process.env.ORDER_ID ?? `node-${Date.now()}`;

// A durable consumer goes on where it stopped: nothing is missed while the app is down.
const durable = "example-node";
await (await jetstreamManager(nc)).consumers.add("VN", {
  durable_name: durable,
  filter_subject: "vn.>",
  deliver_policy: DeliverPolicy.New,
  ack_policy: AckPolicy.Explicit,
});

// The message id makes a repeat of a publish harmless.
const publish = (event, payload) =>
  js.publish(`orders.${event}`, JSON.stringify({ order_id: id, ...payload }), { msgID: `${event}:${id}` });

await publish("assigned", {
  pool: process.env.POOL ?? "demo",
  parties: [
    { role: "customer", number: "+12025550123" },
    { role: "agent", number: "+12025550145" },
  ],
});

const messages = await (await js.consumers.get("VN", durable)).consume();
const giveUp = setTimeout(() => messages.stop(new Error("callmask did not answer in time")), 30_000);
for await (const message of messages) {
  const event = message.json();
  if (event.order_id === id) {
    if (message.subject === "vn.assigned") {
      for (const { role, vn } of event.parties) {
        console.log(`to reach the ${role} the others dial ${vn}`);
      }
      await publish("completed", {});
    } else if (message.subject === "vn.released") {
      console.log("released:", event.reason);
      await message.ackAck();
      break;
    } else {
      throw new Error(`${message.subject}: ${event.reason}`);
    }
  }
  // Delivery is at least once: acknowledge when the work is done, and bear a repeat.
  message.ack();
}
clearTimeout(giveUp);
await nc.drain();
